"""SQL over the lake's views; no HTTP and no drawing."""
