from functools import partial

import polars as pl

from prunelake.api.queries.row_cache import OVERHEAD, ResultCache, RowCache
from prunelake.lake.sql.bound_query import BoundQuery


def test_the_rows_of_a_query_are_read_once_and_forgotten_beyond_the_capacity() -> None:
    read: list[int] = []

    def rows(query: BoundQuery) -> pl.DataFrame:
        read.append(query.parameters["level"])
        return pl.DataFrame({"level": [query.parameters["level"]] * 100})

    size = int(pl.DataFrame({"level": [0] * 100}).estimated_size()) + OVERHEAD
    cache = RowCache(capacity=2 * size)
    for level in (0, 1, 0, 2, 0, 1):
        query = BoundQuery("select $level as level", level=level)
        assert cache.rows(query, rows)["level"].to_list() == [level] * 100
    assert read == [0, 1, 2, 1]


def test_empty_answers_have_a_size() -> None:
    cache = RowCache(capacity=10 * OVERHEAD)
    for level in range(100):
        cache.rows(BoundQuery("select $level", level=level), lambda _: pl.DataFrame())
    assert len(cache._rows) <= 10


def test_a_result_is_computed_once_and_forgotten_beyond_the_capacity() -> None:
    computed: list[int] = []

    def square(number: int) -> int:
        computed.append(number)
        return number**2

    cache = ResultCache(capacity=2)
    for number in (3, 4, 3, 5, 3, 4):
        assert cache.get(number, partial(square, number)) == number**2
    assert computed == [3, 4, 5, 4]
