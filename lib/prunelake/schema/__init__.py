"""The schema of the lake: tables, metrics, row formats."""
