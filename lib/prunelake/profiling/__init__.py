"""Measure what each level costs on this machine."""
