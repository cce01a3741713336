"""Measurements on examples: predictions, attributions, deletion curves."""
