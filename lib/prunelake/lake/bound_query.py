"""A question to the lake: SQL with named parameters, and the rows it gives."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from textwrap import dedent
from typing import Any

import duckdb
import polars as pl

from prunelake.errors import QueryError

Connection = duckdb.DuckDBPyConnection


class BoundQuery:
    """SQL whose values are bound as `$name`: they can never become part of the statement."""

    def __init__(self, sql: str, **parameters: Any) -> None:
        self.sql = dedent(sql).strip()
        self.parameters: Mapping[str, Any] = parameters

    @property
    def sql_with_values(self) -> str:
        """The same statement with its values written out, to be run anywhere."""
        return re.sub(r"\$(\w+)", lambda name: sql_literal(self.parameters[name[1]]), self.sql)

    def rows(self, connection: Connection) -> pl.DataFrame:
        """What the lake answers.

        Raises:
            QueryError: DuckDB refuses.
            duckdb.InterruptException: another thread stopped it.
        """
        with _translate_errors():
            answer = connection.sql(self.sql, params=dict(self.parameters))
            return pl.DataFrame(answer.to_arrow_table())

    def records(self, connection: Connection) -> list[dict[str, Any]]:
        """What the lake answers, as Python values by name; faster than `rows` for a page of them.

        Raises:
            QueryError, duckdb.InterruptException: as `rows`.
        """
        with _translate_errors():
            answer = connection.execute(self.sql, dict(self.parameters))
            names = [column[0] for column in answer.description]
            return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]


@contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    except duckdb.InterruptException:
        raise
    except duckdb.Error as error:
        first_line = str(error).partition("\n")[0]
        raise QueryError(f"{first_line}; `prunelake doctor` checks the files") from error


def sql_literal(value: Any) -> str:
    """A value as DuckDB reads it in a statement.

    Raises:
        TypeError: a value of another type than None, bool, int, float, str, datetime or list.
    """
    match value:
        case None:
            return "null"
        case bool() | int():
            return str(value).lower()
        case float():
            return f"{value!r}::double" if value - value == 0 else f"'{value}'::double"
        case str():
            return "'" + value.replace("'", "''") + "'"
        case datetime():
            return f"timestamptz '{value.isoformat()}'"
        case list():
            return f"[{', '.join(map(sql_literal, value))}]"
    raise TypeError(f"{value!r} has no literal")


def sql_identifier(name: str) -> str:
    """A name as DuckDB reads it in a statement, whatever characters it has."""
    return '"' + name.replace('"', '""') + '"'
