"""Recommend a level: within margins and a cost budget."""
