"""Results that other evaluators measured, as runs of the lake: one module a log format."""
