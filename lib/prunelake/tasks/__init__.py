"""Tasks: the catalogue, their rows, prompts as token ids, calibration text."""
