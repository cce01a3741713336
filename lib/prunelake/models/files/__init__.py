"""The files of a model, and what they tell before torch loads it."""
