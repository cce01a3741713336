"""SQL over a lake: relations, views, bound values."""
