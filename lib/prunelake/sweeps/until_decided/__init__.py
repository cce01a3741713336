"""A sweep until decided: rounds of examples until every verdict is decided."""
