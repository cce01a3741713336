"""How long tests wait before they give up."""

HANG_S = 600.0
"""A time limit in seconds that only stops a hanging test: no test depends on its speed."""
