"""One forward pass that serves every level of a sweep."""
