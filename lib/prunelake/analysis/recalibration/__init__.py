"""Recalibration: calibrators, fitted without the examples that they are judged by."""
