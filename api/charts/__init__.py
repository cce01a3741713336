"""Charts: one file for each; `drawing` has the parts that they share."""
