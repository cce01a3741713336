"""The written-out text of a query equals its bound form."""

from datetime import UTC, datetime
from typing import Any, cast

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunelake.errors import QueryError
from prunelake.lake.sql.bound_query import BoundQuery, sql_literal
from prunelake.schema.row_formats import to_json

# DuckDB ends a text at a NUL in a statement; no id in a lake has one.
TEXTS = st.text(st.characters(exclude_characters="\0", codec="utf-8"))
VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
    | st.lists(TEXTS, min_size=1, max_size=3)
)


@given(value=VALUES)
def test_a_literal_has_the_value(value: Any) -> None:
    with duckdb.connect() as connection:
        (actual,) = connection.execute(f"select {sql_literal(value)}").fetchone() or ()
    assert actual == value
    assert type(actual) is type(value)


def test_the_text_of_a_query_gives_the_rows_of_its_bound_form() -> None:
    query = BoundQuery(
        "select x, $name as name from range($n) as t (x) where $at is null or x > $at",
        name="it's $n",
        n=3,
        at=None,
    )
    with duckdb.connect() as connection:
        bound = query.rows(connection)
        written = BoundQuery(query.sql_with_values).rows(connection)
    assert bound.rows() == written.rows() == [(i, "it's $n") for i in range(3)]


def test_records_are_the_rows_by_name() -> None:
    query = BoundQuery(
        "select x, $at as at, [x, null] as list, {'a': x} as struct, 'nan'::float as nothing "
        "from range(3) as t (x)",
        at=datetime(2026, 1, 2, tzinfo=UTC),
    )
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        records = query.records(connection)
        assert to_json(records) == to_json(query.rows(connection).to_dicts())
    assert records[2]["struct"] == {"a": 2}


def test_a_time_has_a_literal() -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    with duckdb.connect() as connection:
        asked = connection.execute(f"select {sql_literal(at)} = $at", {"at": at})
        (actual,) = asked.fetchone() or ()
    assert actual is True


def test_a_value_without_a_literal_is_refused() -> None:
    with pytest.raises(TypeError, match="has no literal"):
        sql_literal(object())


def test_sql_that_duckdb_refuses_is_a_query_error() -> None:
    with duckdb.connect() as connection, pytest.raises(QueryError, match="nonsense"):
        BoundQuery("from nonsense").rows(connection)
    with duckdb.connect() as connection, pytest.raises(QueryError, match="nonsense"):
        BoundQuery("from nonsense").records(connection)


def test_a_query_that_ctrl_c_stops_raises_as_all_python_does() -> None:
    class Connection:
        def execute(self, *_: object) -> None:
            raise RuntimeError("Query interrupted")

    with pytest.raises(KeyboardInterrupt):
        BoundQuery("select 1").records(cast(Any, Connection()))
