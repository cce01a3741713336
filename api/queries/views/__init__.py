"""The rows of a view: columns, filters, order, pages."""
