"""Tasks: the catalogue, rows as examples, examples as token ids, calibration text."""
