"""A recommendation in words: the answer, the reasons, what would change it, and its limits."""
