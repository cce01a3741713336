"""Sentences about runs and recommendations, from rows of queries."""
