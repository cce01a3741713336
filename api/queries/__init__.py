"""SQL over the lake's views; no HTTP and no drawing.

A function returns a `BoundQuery`, which `snapshots.snapshot.Snapshot` runs. `views` turns the
parameters of a request into the rows of any view.
"""
