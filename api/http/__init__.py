"""HTTP around the routes: errors, security, cache, counters, formats."""
