"""Plan the evidence: the rows, tokens and minutes that a verdict needs."""
