"""The tables of a lake as Delta or Iceberg tables, over the same data files, without copies."""
