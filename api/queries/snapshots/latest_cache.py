"""Keeps the latest values that several charts and findings share."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

import polars as pl

Value = TypeVar("Value")

ROW_BYTES = 64_000_000

RESULTS = 256
"""Results are at most the JSON of a chart: about 50 kB."""

OVERHEAD = 1000
"""Bytes of an entry besides its rows: readers may ask for many runs that do not exist."""


class LatestCache(Generic[Value]):
    """The latest values, up to `capacity` of the sum of their sizes; threads may share it."""

    def __init__(self, capacity: int, size: Callable[[Value], int]) -> None:
        self.capacity = capacity
        self._size_of = size
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def __contains__(self, key: Hashable) -> bool:
        """Whether `get` need not compute the value of a key."""
        return key in self._values

    def get(self, key: Hashable, compute: Callable[[], Value]) -> Value:
        """The value of a key, which `compute` returns the first time."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = compute()
        with self._lock:
            if key not in self._values:
                self._values[key] = value
                self._size += self._size_of(value)
            while self._size > self.capacity:
                _, oldest = self._values.popitem(last=False)
                self._size -= self._size_of(oldest)
        return value


def row_cache(capacity: int = ROW_BYTES) -> LatestCache[pl.DataFrame]:
    """A cache of rows, up to `capacity` bytes."""
    return LatestCache(capacity, lambda rows: int(rows.estimated_size()) + OVERHEAD)


def sized_cache(capacity: int = ROW_BYTES) -> LatestCache[Any]:
    """A cache of values with a `size`, up to `capacity` bytes."""
    return LatestCache(capacity, lambda value: int(value.size) + OVERHEAD)


def result_cache(capacity: int = RESULTS) -> LatestCache[Any]:
    """A cache of `capacity` results of costly functions."""
    return LatestCache(capacity, lambda _: 1)
