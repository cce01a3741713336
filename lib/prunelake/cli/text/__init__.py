"""The output of commands: tables, recommendations, gates, progress."""
