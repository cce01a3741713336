"""Comparisons of models with a baseline, on the same rows."""
