"""How long tests wait before they give up."""

HANG_S = 600.0
"""A limit that only stops a test that hangs, in seconds: no test passes or fails by its speed."""
