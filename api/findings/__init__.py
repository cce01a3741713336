"""Rows of queries as sentences: what a run shows."""
