"""The definition of a table of the lake: its grain, key and columns."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

FORMAT_VERSION = 3
"""The version of the files and of the numbers in them; it is part of every run's identity.

It changes when older files cannot be read as they are, and when the code computes other numbers
from the same spec. No lake holds files of two versions.
"""

METRIC_KEY = ("metric", "method", "operator", "variant")
"""The columns that name a metric. A key has no nulls, so '' stands for a method, operator or
variant that does not apply; `lake.*` and the views show it as null."""

METRIC_KEY_SCHEMA: Mapping[str, pl.DataType] = {name: pl.String() for name in METRIC_KEY}

TableRow = dict[str, Any]
"""A row of a table: its values by column."""

CellKey = tuple[Any, ...]
"""The key of a row without its owner."""


@dataclass(frozen=True)
class Table:
    """One table of the lake; its rows are unique in `key`.

    `grain` says in words what one row describes. The first column of the key names the owner of a
    row: its run or its profile. An optional table has no file where a run has no rows for it.
    """

    name: str
    grain: str
    key: tuple[str, ...]
    schema: Mapping[str, pl.DataType]
    is_optional: bool = False

    @property
    def owner_column(self) -> str:
        """The column with the id of the run or profile that a row belongs to."""
        return self.key[0]

    @property
    def owner_kind(self) -> str:
        """The owner of a row, as a word for messages: `run` or `profile`."""
        return self.owner_column.removesuffix("_id")

    def frame(self, rows: list[TableRow]) -> pl.DataFrame:
        """The rows as a frame with exactly the columns and types of this table."""
        return pl.DataFrame(rows, schema=dict(self.schema), orient="row", strict=True)

    def cell_keys(self, rows: pl.DataFrame | None) -> set[CellKey]:
        """The keys of rows, without their owner; None stands for no rows."""
        return set() if rows is None else {*rows.select(self.key[1:]).iter_rows()}


class TableGroup(Mapping[str, Table]):
    """Tables that are written together, by name: the owner table and the tables of its rows.

    The owner table has one row for each run, analysis or profile. The folder of this table holds
    the manifests.
    """

    def __init__(self, owner_table: Table, *other_tables: Table) -> None:
        self.owner_table = owner_table
        self._tables = {table.name: table for table in (owner_table, *other_tables)}

    def __getitem__(self, name: str) -> Table:
        return self._tables[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tables)

    def __len__(self) -> int:
        return len(self._tables)

    @property
    def owner_column(self) -> str:
        """The column with the id of the run or profile; the same in every table of the group."""
        return self.owner_table.owner_column
