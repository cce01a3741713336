"""Charts: one file for each drawing."""
