"""A sweep: from a spec to a complete run in the lake."""
