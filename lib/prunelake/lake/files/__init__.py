"""The files of a lake: names, Parquet, checksums, manifests, and damage to them."""
