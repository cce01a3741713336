"""Evaluate new models: watchlist, revisions, attempts, rounds."""
