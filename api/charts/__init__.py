"""Frames of `queries` -> charts, with the finding as the title; no SQL here."""
