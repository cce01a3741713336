"""The storage of a lake: a local folder or an object store, with locks for both."""
