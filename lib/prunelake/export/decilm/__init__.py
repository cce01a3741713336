"""The two files that a nemotron-nas checkpoint brings along; they need transformers only."""
