"""A table of the lake: its grain, its key and its columns."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

FORMAT_VERSION = 2
"""Changes when a file of an older version can no longer be read as it stands, and when the code
computes other numbers from the same spec: it is part of a run's identity."""

TableRow = dict[str, Any]
"""A row of a table: its values by column."""


@dataclass(frozen=True)
class Table:
    """One table: a Parquet file a run, or a profile, whose rows are unique in `key`."""

    name: str
    grain: str
    key: tuple[str, ...]
    schema: Mapping[str, pl.DataType]
    is_optional: bool = False  # a run without such rows has no such file

    @property
    def owner_column(self) -> str:
        """The column that says which run, or profile, a row is of."""
        return self.key[0]

    def frame(self, rows: list[TableRow]) -> pl.DataFrame:
        """The rows as a frame of exactly this table's columns and types."""
        return pl.DataFrame(rows, schema=dict(self.schema), orient="row", strict=True)


# In the tables below, '' stands for a method, operator or variant that does not apply: a key has no
# nulls. The views show it as null.
METRIC_KEY = ("metric", "method", "operator", "variant")
METRIC_KEY_SCHEMA = {name: pl.String() for name in METRIC_KEY}
