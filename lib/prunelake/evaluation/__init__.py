"""Evaluation of examples: predictions, attributions, deletion curves and AOPC bounds."""
