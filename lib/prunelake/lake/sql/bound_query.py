"""SQL with values: bound as named parameters, or written out where DuckDB cannot bind."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from textwrap import dedent
from typing import Any

import duckdb
import polars as pl

from prunelake.errors import QueryError

Connection = duckdb.DuckDBPyConnection

PARAMETER = re.compile(r"\$(\w+)")


class BoundQuery:
    """A query whose values are bound to `$name`, and so can never become SQL."""

    def __init__(self, sql: str, **parameters: Any) -> None:
        self.sql = dedent(sql).strip()
        self.parameters: Mapping[str, Any] = parameters

    @property
    def sql_with_values(self) -> str:
        """The query with its values written out, so that any client can run it."""
        return PARAMETER.sub(lambda name: sql_literal(self.parameters[name[1]]), self.sql)

    def rows(self, connection: Connection) -> pl.DataFrame:
        """The rows of the answer.

        Raises:
            QueryError: DuckDB refuses the query.
            duckdb.InterruptException: another thread stopped the query.
        """
        with _translate_errors():
            answer = connection.sql(self.sql, params=dict(self.parameters))
            return pl.DataFrame(answer.to_arrow_table())

    def records(self, connection: Connection) -> list[dict[str, Any]]:
        """The rows of the answer as Python values by column; faster than `rows` for few rows.

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
    except RuntimeError as error:
        # DuckDB replaces the exception of a signal handler by this.
        if str(error) == "Query interrupted":
            raise KeyboardInterrupt from error
        raise
    except duckdb.Error as error:
        raise QueryError(f"{error_message(error)}; `prunelake doctor` checks the files") from error


def error_message(error: Exception) -> str:
    """The message of DuckDB in one line, without its copy of the statement."""
    text = str(error).split("\n\nLINE ")[0]
    if text.startswith("Traceback"):  # an error of `duckdb_filesystem`
        text = text.rstrip().rpartition("\n")[2]
    return " ".join(text.split())


def attach(connection: Connection, path: Path, name: str) -> None:
    """Attach a DuckDB file to a connection, read-only, as the database `name`.

    Raises:
        duckdb.Error: a file that DuckDB cannot open.
    """
    connection.execute(f"attach {sql_literal(str(path))} as {name} (read_only)")


def sql_literal(value: Any) -> str:
    """A value as a literal of DuckDB's SQL.

    Only for statements that take no parameters: paths in views and settings, and comments.

    Raises:
        TypeError: a value that is not None, a bool, int, float, str, datetime or list.
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
    raise TypeError(f"{value!r} has no literal; bind it as a parameter")


def sql_identifier(name: str) -> str:
    """A name as an identifier in a statement of DuckDB, with any characters."""
    return '"' + name.replace('"', '""') + '"'
