"""Query a lake with DuckDB: the tables as relations `lake.*`, and the views of sql/."""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from prunelake.errors import CorruptFile, QueryError, one_line
from prunelake.lake.files.damage import find_damage
from prunelake.lake.read import complete_manifests
from prunelake.lake.sql.bound_query import BoundQuery, Connection, sql_literal
from prunelake.lake.sql.relations import relation_sql
from prunelake.lake.sql.view_template import copy_views
from prunelake.lake.storage.location import Location
from prunelake.lake.storage.objects import ObjectPath
from prunelake.schema.tables import ALL_TABLES

DUCKDB_FILE_ERRORS = (
    duckdb.IOException,
    duckdb.InvalidInputException,
    duckdb.SerializationException,
    duckdb.InternalException,
)
"""The errors of DuckDB for a missing or damaged file, apart from its plain Error."""

MAX_ATTEMPTS = 10
"""How often a reader tries to read while compactions remove files that it needs."""


def connect(lake: Location, run_ids: Collection[str] | None = None) -> Connection:
    """An in-memory database with the views of the lake, over the runs that are complete now.

    With `run_ids` it has these runs only, and opens no files of other single runs. The schema
    `lake` has every table: analysis tables have the analyses of this version, profile tables have
    all profiles. The connection reads no files outside the lake, and its settings are locked. SQL
    could still overwrite files of the lake, so run the SQL of users with `select_read_only`.

    Raises:
        LakeError: no such folder, or no such run.
        WrongFormat: a run of another format version.
        CorruptFile: a file that cannot be read or has another schema.
    """
    attempts = 0
    while True:
        try:
            return _connect_once(lake, run_ids)
        except duckdb.Error as error:
            _raise_if_damaged(lake, error)
            # No file is damaged: a compaction or a writer may have replaced a file.
            attempts += 1
            if attempts == MAX_ATTEMPTS or not _is_file_error(error):
                raise


def _connect_once(lake: Location, run_ids: Collection[str] | None) -> Connection:
    manifests = [m for m in complete_manifests(lake, run_ids) if m.run_ids]
    connection = duckdb.connect(config={"python_enable_replacements": "false"})
    try:
        if isinstance(lake, ObjectPath):
            from prunelake.lake.storage.duckdb_filesystem import ObjectStoreFileSystem

            connection.register_filesystem(ObjectStoreFileSystem())
        connection.execute("set TimeZone = 'UTC'")
        copy_views(connection)
        readable: list[Location] = []
        for table in ALL_TABLES.values():
            sources = [
                (path.resolve() if isinstance(path, Path) else path, manifest)
                for manifest in manifests
                if (path := manifest.file(table.name)) is not None
            ]
            if sources:  # without files, the copied view of an empty table stays
                connection.execute(relation_sql(table, sources))
            readable += [path for path, _ in sources]
        allowed_paths = sql_literal([str(path) for path in readable])
        connection.execute(f"set allowed_paths = {allowed_paths}")
        connection.execute("set enable_external_access = false")
        connection.execute("set lock_configuration = true")
    except duckdb.Error:
        connection.close()
        raise
    return connection


def query(lake: Location, sql: str, /, **parameters: Any) -> pl.DataFrame:
    """The rows of a statement of PruneLake itself over the views of the lake.

        query(lake, "select level from metrics where run_id = $run_id", run_id=run_id)

    Raises:
        QueryError: SQL that DuckDB refuses.
        LakeError, WrongFormat, CorruptFile: as `connect`; CorruptFile also during the query.
    """
    return ask_lake(lake, lambda connection: select(connection, sql, **parameters))


def query_read_only(
    lake: Location, text: str, values: Sequence[Any] = (), /, **parameters: Any
) -> pl.DataFrame:
    """The rows of a user's query over the views of the lake, which must only read.

        query_read_only(lake, "select level from metrics where run_id = ?", [run_id])

    Raises:
        QueryError: SQL that DuckDB refuses, or that does more than read.
        LakeError, WrongFormat, CorruptFile: as `query`.
    """
    return ask_lake(
        lake, lambda connection: select_read_only(connection, text, values, **parameters)
    )


def ask_lake(lake: Location, ask: Callable[[Connection], pl.DataFrame]) -> pl.DataFrame:
    """An answer from a new connection; `ask` is called again if a compaction removed a file.

    Raises:
        QueryError: as `ask`.
        LakeError, WrongFormat, CorruptFile: as `query`.
    """
    attempts = 0
    while True:
        try:
            with connect(lake) as connection:
                return ask(connection)
        except QueryError as error:
            cause = error.__cause__
            # DuckDB treats a missing file as a folder, which it is not allowed to list.
            is_missing = (
                isinstance(lake, Path)
                and isinstance(cause, duckdb.PermissionException)
                and str(lake.resolve()) in str(cause)
            )
            if not isinstance(cause, duckdb.Error) or not (is_missing or _is_file_error(cause)):
                raise
            _raise_if_damaged(lake, cause)
            # No file is damaged: a compaction may have removed a file while it was read.
            attempts += 1
            if attempts == MAX_ATTEMPTS:
                raise


def _is_file_error(error: duckdb.Error) -> bool:
    return isinstance(error, DUCKDB_FILE_ERRORS) or type(error) is duckdb.Error


def select(connection: Connection, sql: str, /, **parameters: Any) -> pl.DataFrame:
    """The rows of a statement of PruneLake itself; DuckDB binds `parameters` to `$name`.

    Raises:
        QueryError: SQL that DuckDB refuses.
    """
    return BoundQuery(sql, **parameters).rows(connection)


def select_read_only(
    connection: Connection, text: str, values: Sequence[Any] = (), /, **parameters: Any
) -> pl.DataFrame:
    """The rows of a user's statement that only reads.

    It begins with SELECT, FROM, VALUES, PIVOT, DESCRIBE, SHOW or SUMMARIZE. DuckDB binds `values`
    to `?`, or `parameters` to `$name`, so no value is read as SQL.

    Raises:
        QueryError: SQL that DuckDB refuses, or that does more than read.
    """
    try:
        bound = list(values) or parameters or None
        statement = read_only_statement(connection, text, bound)
        return pl.DataFrame(connection.sql(statement, params=bound).to_arrow_table())
    except duckdb.Error as error:
        raise QueryError(
            f"{error_message(error)} (`prunelake views` lists views and columns)"
        ) from error
    except pl.exceptions.PolarsError as error:
        raise QueryError(
            f"the answer does not fit into a table ({one_line(error)}); give its columns distinct "
            "names, and cast columns without numbers, texts, dates or lists"
        ) from error


def query_batches(connection: Connection, text: str, rows: int = 2**20) -> Iterator[pl.DataFrame]:
    """The answer to a statement of PruneLake itself, at most `rows` rows at a time.

    Raises:
        QueryError: a file that DuckDB cannot read.
    """
    try:
        for batch in connection.sql(text).to_arrow_reader(rows):
            yield pl.DataFrame(batch)
    except duckdb.Error as error:
        raise QueryError(error_message(error)) from error


def describe_views(connection: Connection) -> pl.DataFrame:
    """The views: `view`, `comment` (grain and meaning), `columns` (a list of `name` and `type`)."""
    return select(
        connection,
        r"""
        select
            views.view_name as view,
            regexp_replace(views.comment, '\s+', ' ', 'g') as comment,
            list(
                {'name': columns.column_name, 'type': lower(columns.data_type)}
                order by columns.column_index
            ) as columns
        from duckdb_views() as views
        inner join duckdb_columns() as columns
            on views.schema_name = columns.schema_name and views.view_name = columns.table_name
        where not views.internal and views.schema_name = 'main'
        group by views.view_name, views.comment
        order by views.view_name
        """,
    )


def error_message(error: Exception) -> str:
    """The message of DuckDB in one line, without its copy of the statement."""
    return " ".join(str(error).split("\n\nLINE ")[0].split())


def read_only_statement(
    connection: Connection, text: str, parameters: list[Any] | dict[str, Any] | None = None
) -> str:
    """The statement in a text, if there is exactly one and it only reads.

    Raises:
        QueryError: several statements or none, or a statement that does more than read.
        duckdb.Error: SQL that DuckDB refuses.
    """
    statements = connection.extract_statements(text)
    if len(statements) != 1:
        raise QueryError(f"{len(statements)} statements; give exactly one SELECT")
    (statement,) = statements
    # DuckDB expands a PIVOT without an IN list to several statements, and treats a COPY in a WITH
    # clause as a SELECT.
    is_pivot = statement.type == duckdb.StatementType.MULTI and not re.search(
        r"\bcopy\b", text, re.IGNORECASE
    )
    if statement.type != duckdb.StatementType.SELECT and not is_pivot:
        kind = statement.type.name
        raise QueryError(f"{kind} does more than read; the lake allows SELECT, FROM, PIVOT, ...")
    # Only reading statements can be a subquery.
    explained = f"explain select * from (\n{statement.query.rstrip().rstrip(';')}\n)"
    connection.execute(explained, parameters)
    return statement.query


def _raise_if_damaged(lake: Location, error: duckdb.Error) -> None:
    """Raise CorruptFile for the first damaged file: the message of DuckDB may not name it."""
    for finding in find_damage(lake):
        raise CorruptFile(f"{finding.file}: {finding.problem}; {finding.remedy}") from error
