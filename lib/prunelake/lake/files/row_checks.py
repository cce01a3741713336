"""Check the rows of a table: its schema, its key, and no rows of other owners."""

from collections.abc import Collection, Iterator

import polars as pl

from prunelake.schema.table import Table


def schema_problem(frame: pl.DataFrame, table: Table) -> str | None:
    """How the columns of a frame differ from the columns of its table; None if they are equal."""
    actual, expected = list(frame.schema.items()), list(table.schema.items())
    if actual == expected:
        return None
    extra = [f"{name} {dtype}" for name, dtype in actual if (name, dtype) not in expected]
    missing = [f"{name} {dtype}" for name, dtype in expected if (name, dtype) not in actual]
    if not extra and not missing:
        return f"another schema: the columns are not in the order {', '.join(table.schema)}"
    return f"another schema: has {extra or 'nothing more'}, lacks {missing or 'nothing'}"


def row_problems(frame: pl.DataFrame, table: Table, owners: Collection[str]) -> Iterator[str]:
    """The problems of rows with the right schema.

    `owners` are the runs, or profiles, that the rows should belong to.
    """
    column = pl.col(table.owner_column)
    foreign = frame.filter(~column.is_in(list(owners)).fill_null(value=False))
    if not foreign.is_empty():
        expected = next(iter(owners)) if len(owners) == 1 else f"one of its {len(owners)}"
        yield f"rows of {table.owner_kind} {foreign[table.owner_column][0]} instead of {expected}"
    keys = frame.select(table.key)
    if any(column.null_count() for column in keys.get_columns()):
        yield f"null in the key ({', '.join(table.key)})"
    if keys.is_duplicated().any():
        yield f"the key ({', '.join(table.key)}) is not unique"
