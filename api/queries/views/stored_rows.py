"""Pages of one run from rows in memory: DuckDB takes 2 ms to plan any query, these need 0.1 ms."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from prunelake.lake.snapshot_file import EXPLANATION_VIEWS, MATERIALISED_VIEWS
from prunelake.lake.sql.bound_query import BoundQuery
from prunelake.schema.row_formats import to_json

from ..snapshots.snapshot import Snapshot
from .view_catalog import FILTER_SUFFIXES, View
from .view_rows import RowPage

STORED_VIEWS = frozenset(MATERIALISED_VIEWS) - frozenset(EXPLANATION_VIEWS)

TEXT_BYTES = 33
"""The bytes of each text besides its characters."""


@dataclass(frozen=True)
class StoredRows:
    """All rows of a run in a view, in the order of the key: as a frame, and each row as JSON."""

    frame: pl.DataFrame
    json: Sequence[bytes]

    @property
    def size(self) -> int:
        """Their bytes in memory."""
        texts = sum(map(len, self.json)) + TEXT_BYTES * len(self.json)
        return int(self.frame.estimated_size()) + texts


@dataclass(frozen=True)
class StoredPage:
    """A page of one run of a view whose rows a snapshot stores.

    The first page of a run reads all rows of the run, which are then kept. `json` and `rows` raise
    LimitExceeded and QueryError as `Snapshot.rows`.
    """

    page: RowPage
    run_id: str

    @property
    def _key(self) -> tuple[str, str]:
        return self.page.view.name, self.run_id

    def is_in_memory(self, snapshot: Snapshot) -> bool:
        """Whether the page needs no query."""
        return self._key in snapshot.kept_runs

    def json(self, snapshot: Snapshot) -> list[bytes]:
        """The rows of `page.query`, each as JSON."""
        rows = self._rows(snapshot)
        return [rows.json[position] for position in self._positions(rows.frame)]

    def rows(self, snapshot: Snapshot) -> pl.DataFrame:
        """The rows of `page.query`."""
        frame = self._rows(snapshot).frame
        return frame[self._positions(frame)]

    def _rows(self, snapshot: Snapshot) -> StoredRows:
        rows: StoredRows = snapshot.kept_runs.get(
            self._key, lambda: _read(snapshot, self.page.view, self.run_id)
        )
        return rows

    def _positions(self, frame: pl.DataFrame) -> Sequence[int]:
        """The positions of the page's rows among the rows of its run."""
        found: Sequence[int] = range(frame.height)
        # A few hundred rows: Polars takes longer to plan a filter than Python to test them.
        for condition in self.page.filters:
            if condition.column != "run_id" or condition.suffix:
                values, holds = frame[condition.column].to_list(), condition.test()
                found = [position for position in found if holds(values[position])]
        # Equal rows keep the order of the key.
        for name, is_descending in reversed(self.page.order):
            keys = [*map(_descending if is_descending else _ascending, frame[name].to_list())]
            found = sorted(found, key=keys.__getitem__, reverse=is_descending)
        return found[self.page.offset : self.page.offset + self.page.limit + 1]


def stored_page(page: RowPage) -> StoredPage | None:
    """The page, if it shows one run of a view whose rows a snapshot stores."""
    runs = [f.values for f in page.filters if (f.column, f.suffix) == ("run_id", "")]
    if page.view.name not in STORED_VIEWS or [len(values) for values in runs] != [1]:
        return None
    if any(f.is_run_column for f in page.filters):
        return None
    if any(page.view.columns[name] not in FILTER_SUFFIXES for name, _ in page.order):
        return None  # a list
    return StoredPage(page, runs[0][0])


def _read(snapshot: Snapshot, view: View, run_id: str) -> StoredRows:
    key = ", ".join(f'"{name}"' for name in view.key)
    query = f"from {view.name} where run_id = $run_id order by {key}"
    frame = snapshot.rows(BoundQuery(query, run_id=run_id))
    return StoredRows(frame, [to_json(row) for row in frame.iter_rows(named=True)])


def _ascending(value: Any) -> tuple[bool, bool, Any]:
    """The place of a value as in DuckDB: numbers, then NaN, then null."""
    is_nan = value != value
    return value is None, is_nan, 0 if value is None or is_nan else value


def _descending(value: Any) -> tuple[bool, bool, Any]:
    """The same for reverse order: NaN, then numbers, then null."""
    is_null, is_nan, number = _ascending(value)
    return not is_null, is_nan, number
