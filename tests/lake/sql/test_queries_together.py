"""Queries that are read together have the rows of each query, in its order."""

import duckdb
import pytest

from prunelake.errors import QueryError
from prunelake.lake.sql.bound_query import BoundQuery
from prunelake.lake.sql.queries_together import rows_of_each

ORDERED = """
    with multiples as (select x, x * $factor as multiple from range(20000) as t (x))

    select
        multiple % 7 as remainder,
        x
    from multiples
    where $least is null or x >= $least
    order by multiple % 7 desc, (x * 31) % 1009, x
"""


def test_each_query_keeps_its_rows_and_their_order() -> None:
    queries = [
        BoundQuery(ORDERED, factor=factor, least=least)
        for factor, least in [(3, None), (5, 19990), (2, 50000), (3, None)]
    ]
    queries.insert(2, BoundQuery("select list(x order by x desc) as xs from range($n) t (x)", n=3))
    queries.append(BoundQuery("select list(x order by x desc) as xs from range($n) t (x)", n=0))
    queries.append(BoundQuery("select 1 as one"))
    with duckdb.connect() as connection:
        together = rows_of_each(queries, connection)
        for query, rows in zip(queries, together, strict=True):
            assert rows.equals(query.rows(connection)), query.parameters
    assert [rows.height for rows in together] == [20000, 10, 1, 0, 20000, 1, 1]


def test_no_query_has_no_rows_and_a_wrong_query_is_refused() -> None:
    with duckdb.connect() as connection:
        assert rows_of_each([], connection) == []
        with pytest.raises(QueryError, match="nonsense"):
            rows_of_each([BoundQuery("select $n from nonsense", n=n) for n in (1, 2)], connection)
