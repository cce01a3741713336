from functools import partial

import polars as pl

from prunelake.api.queries.snapshots.latest_cache import OVERHEAD, result_cache, row_cache


def test_rows_are_read_once_and_forgotten_beyond_the_capacity() -> None:
    read: list[int] = []

    def rows(level: int) -> pl.DataFrame:
        read.append(level)
        return pl.DataFrame({"level": [level] * 100})

    size = int(pl.DataFrame({"level": [0] * 100}).estimated_size()) + OVERHEAD
    cache = row_cache(capacity=2 * size)
    for level in (0, 1, 0, 2, 0, 1):
        assert cache.get(level, partial(rows, level))["level"].to_list() == [level] * 100
    assert read == [0, 1, 2, 1]


def test_empty_answers_have_a_size() -> None:
    cache = row_cache(capacity=10 * OVERHEAD)
    for level in range(100):
        cache.get(level, pl.DataFrame)
    assert [level in cache for level in range(88, 100)] == [False] * 2 + [True] * 10


def test_a_result_is_computed_once_and_forgotten_beyond_the_capacity() -> None:
    computed: list[int] = []

    def square(number: int) -> int:
        computed.append(number)
        return number**2

    cache = result_cache(capacity=2)
    for number in (3, 4, 3, 5, 3, 4):
        assert cache.get(number, partial(square, number)) == number**2
    assert computed == [3, 4, 5, 4]
