"""Where a lake is stored: a local folder or an object store, with locks for both."""
