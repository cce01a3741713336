"""The lake: storage, manifests, commits, reads, checks, SQL and snapshots."""
