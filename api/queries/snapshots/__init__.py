"""The published snapshot: open it, keep a local copy, and cache its answers."""
