"""What reads the lake: queries, charts and the report."""
