"""The files of a model, and the facts in them that are known before torch loads it."""
