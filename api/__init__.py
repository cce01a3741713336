"""The HTTP API over a lake, its charts, and the report."""
