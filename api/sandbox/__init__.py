"""Processes that run the SQL of clients under limits."""
