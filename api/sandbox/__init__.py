"""Processes that run other people's SQL under limits."""
