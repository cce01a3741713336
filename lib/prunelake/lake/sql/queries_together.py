"""Many queries that differ only in their values, read as one query."""

import re
from collections.abc import Sequence

import polars as pl

from .bound_query import PARAMETER, BoundQuery, Connection

FINAL_SELECT = re.compile(r"^select\b(?!.*^select\b)", re.MULTILINE | re.DOTALL)


def rows_of_each(queries: Sequence[BoundQuery], connection: Connection) -> list[pl.DataFrame]:
    """The rows of each query; queries with equal SQL are read together.

    DuckDB takes longer to plan a query of the views than to find a few rows. Equal SQL must not end
    with a limit, and not order its rows by a name that its last `select` gives.

    Raises:
        QueryError, duckdb.InterruptException: as `BoundQuery.rows`.
    """
    numbers_of: dict[str, list[int]] = {}
    for number, query in enumerate(queries):
        numbers_of.setdefault(query.sql, []).append(number)
    found: dict[int, pl.DataFrame] = {}
    for numbers in numbers_of.values():
        if len(numbers) == 1:
            found[numbers[0]] = queries[numbers[0]].rows(connection)
            continue
        rows = _together([queries[number] for number in numbers]).rows(connection)
        parts = rows.partition_by("query_number", as_dict=True)
        for position, number in enumerate(numbers):
            part = parts.get((position,), rows.clear())
            found[number] = part.drop("query_number", "row_number")
    return [found[number] for number in range(len(queries))]


def _together(queries: Sequence[BoundQuery]) -> BoundQuery:
    """One query with the rows of all queries, which have equal SQL."""
    names = queries[0].parameters
    values = "".join(f", unnest(${name}) as {name}" for name in names)
    one = PARAMETER.sub(r"given.\1", _numbered(queries[0].sql))
    return BoundQuery(
        f"with given as (select unnest(range({len(queries)})) as query_number{values}) "
        f"select given.query_number, found.* from given, lateral ({one}) as found "
        "order by given.query_number, found.row_number",
        **{name: [query.parameters[name] for query in queries] for name in names},
    )


def _numbered(sql: str) -> str:
    """The SQL with the column `row_number`: a correlated subquery does not keep its order."""
    body, _, order = sql.rpartition("order by")
    if not body or order.count("(") != order.count(")"):  # no order, or that of an aggregate
        body, order = sql, ""
    keys = f"order by {order}" if order else ""
    return FINAL_SELECT.sub(f"select row_number() over ({keys}) as row_number,", body)
