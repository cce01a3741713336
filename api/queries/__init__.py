"""SQL over the published snapshot; no HTTP and no drawing."""
