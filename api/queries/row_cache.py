"""Keeps rows and results that several charts and findings of one run share."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import polars as pl

from prunelake.lake.sql.bound_query import BoundQuery

CAPACITY = 64_000_000  # bytes

RESULTS = 256
"""Results are at most the JSON of a chart: about 50 kB."""

OVERHEAD = 1000
"""Bytes of an entry besides its rows: readers may ask for many runs that do not exist."""

ReadRows = Callable[[BoundQuery], pl.DataFrame]
"""Reads the rows of a query: of a connection, of a snapshot, or of a cache."""


class RowCache:
    """The rows of the latest queries, up to `capacity` bytes; threads may share it."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.capacity = capacity
        self._rows: OrderedDict[Any, pl.DataFrame] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def has(self, query: BoundQuery) -> bool:
        """Whether the rows of a query need not be read."""
        return query.sql_with_values in self._rows

    def rows(self, query: BoundQuery, read: ReadRows) -> pl.DataFrame:
        """The rows of a query, which `read` reads the first time."""
        key = query.sql_with_values
        with self._lock:
            if key in self._rows:
                self._rows.move_to_end(key)
                return self._rows[key]
        rows = read(query)
        with self._lock:
            if key not in self._rows:
                self._rows[key] = rows
                self._size += _size(rows)
            while self._size > self.capacity:
                _, oldest = self._rows.popitem(last=False)
                self._size -= _size(oldest)
        return rows


class ResultCache:
    """The latest results of costly functions, up to `capacity` of them; threads may share it."""

    def __init__(self, capacity: int = RESULTS) -> None:
        self.capacity = capacity
        self._results: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        """The result of a key, which `compute` returns the first time."""
        with self._lock:
            if key in self._results:
                self._results.move_to_end(key)
                return self._results[key]
        result = compute()
        with self._lock:
            self._results[key] = result
            if len(self._results) > self.capacity:
                self._results.popitem(last=False)
        return result


def _size(rows: pl.DataFrame) -> int:
    return int(rows.estimated_size()) + OVERHEAD
