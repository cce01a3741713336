"""Measure the cost of each level on this machine."""
