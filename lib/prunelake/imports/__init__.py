"""Import results of other tools as runs of the lake."""
