"""The gate: release criteria, checked against the results in a lake."""
