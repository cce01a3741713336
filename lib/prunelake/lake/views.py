"""DuckDB over the lake: one typed `lake.*` relation a table, and the views of sql/ above them."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from prunelake.errors import CorruptFile, QueryError, one_line
from prunelake.lake.manifests import Manifest
from prunelake.lake.objects import ObjectPath
from prunelake.lake.read import complete_manifests
from prunelake.lake.storage import Location
from prunelake.lake.verify import find_damage
from prunelake.lake.view_files import view_statements
from prunelake.lake.view_template import copy_views
from prunelake.schema.table import Table
from prunelake.schema.tables import ALL_TABLES

DUCKDB_TYPES = {
    pl.String(): "varchar",
    pl.Int32(): "integer",
    pl.Int64(): "bigint",
    pl.Float32(): "float",
    pl.Float64(): "double",
    pl.Boolean(): "boolean",
    pl.Datetime("us", "UTC"): "timestamp with time zone",
}

# What DuckDB raises, beside its plain Error, on bytes that are not what they should be.
DUCKDB_FILE_ERRORS = (
    duckdb.IOException,
    duckdb.InvalidInputException,
    duckdb.SerializationException,
    duckdb.InternalException,
)


MAX_ATTEMPTS = 10
"""A reader may meet as many compactions before it gives up."""


def connect(lake: Location, run_ids: Collection[str] | None = None) -> duckdb.DuckDBPyConnection:
    """An in-memory database of the lake's views, over the runs that are complete now.

    With `run_ids` it holds these runs only, and opens no other's files. `lake.*` has every table,
    the derived ones with the analyses of this version, those of profiles with all of the lake. It
    reads the lake's files and no others, and its settings are locked. It can still overwrite those
    files: run SQL of others through `select`.

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
            # Every file is whole: perhaps one was taken, by a compaction or to be written again.
            attempts += 1
            if attempts == MAX_ATTEMPTS or not _is_file_error(error):
                raise


def _connect_once(lake: Location, run_ids: Collection[str] | None) -> duckdb.DuckDBPyConnection:
    parts = [part for part in complete_manifests(lake, run_ids) if part.run_ids]
    connection = duckdb.connect(config={"python_enable_replacements": "false"})
    try:
        if isinstance(lake, ObjectPath):
            from prunelake.lake.duckdb_filesystem import ObjectStoreFileSystem

            connection.register_filesystem(ObjectStoreFileSystem())
        connection.execute("set TimeZone = 'UTC'")
        empty = (_create_view_sql(table, []) for table in ALL_TABLES.values())
        copy_views(connection, ("create schema lake", *empty, *view_statements()))
        readable: list[Location] = []
        for table in ALL_TABLES.values():
            sources = [
                (path.resolve() if isinstance(path, Path) else path, part)
                for part in parts
                if (path := part.file(table.name)) is not None
            ]
            connection.execute(_create_view_sql(table, sources))
            readable += [path for path, _ in sources]
        connection.execute(f"set allowed_paths = {_sql_list(readable)}")
        connection.execute("set enable_external_access = false")
        connection.execute("set lock_configuration = true")
    except duckdb.Error:
        connection.close()
        raise
    return connection


def query(lake: Location, text: str, /, **parameters: Any) -> pl.DataFrame:
    """The rows of one query over the lake's views; `$name` in it stands for a parameter.

        query(lake, "select level from metrics where run_id = $run_id", run_id=run_id)

    Raises:
        QueryError: SQL that DuckDB refuses, or that does more than read.
        LakeError, WrongFormat, CorruptFile: as `connect`; CorruptFile also when the query meets it.
    """
    attempts = 0
    while True:
        try:
            with connect(lake) as connection:
                return select(connection, text, **parameters)
        except QueryError as error:
            cause = error.__cause__
            # DuckDB takes a file that has gone for a folder, which it may not look into.
            is_gone = (
                isinstance(lake, Path)
                and isinstance(cause, duckdb.PermissionException)
                and str(lake.resolve()) in str(cause)
            )
            if not isinstance(cause, duckdb.Error) or not (is_gone or _is_file_error(cause)):
                raise
            _raise_if_damaged(lake, cause)
            # Every file is whole: perhaps a compaction has taken one while it was read.
            attempts += 1
            if attempts == MAX_ATTEMPTS:
                raise


def _is_file_error(error: duckdb.Error) -> bool:
    return isinstance(error, DUCKDB_FILE_ERRORS) or type(error) is duckdb.Error


def select(connection: duckdb.DuckDBPyConnection, text: str, /, **parameters: Any) -> pl.DataFrame:
    """Run one reading statement: SELECT, FROM, VALUES, PIVOT, DESCRIBE, SHOW, SUMMARIZE.

    Values belong into `parameters`: DuckDB binds them to `$name` and never reads them as SQL.

    Raises:
        QueryError: SQL that DuckDB refuses, or that does more than read.
    """
    try:
        statement = read_only_statement(connection, text, parameters)
        return pl.DataFrame(connection.sql(statement, params=parameters or None).to_arrow_table())
    except duckdb.Error as error:
        raise QueryError(
            f"{error_message(error)} (`prunelake views` lists views and columns)"
        ) from error
    except pl.exceptions.PolarsError as error:
        raise QueryError(
            f"the answer does not fit into a table ({one_line(error)}); give its columns distinct "
            "names, and cast what is no number, text, date or list"
        ) from error


def query_batches(
    connection: duckdb.DuckDBPyConnection, text: str, rows: int = 2**20
) -> Iterator[pl.DataFrame]:
    """The answer to one of our own statements, so many rows at a time, as it is computed.

    Raises:
        QueryError: a file that DuckDB cannot read.
    """
    try:
        for batch in connection.sql(text).to_arrow_reader(rows):
            yield pl.DataFrame(batch)
    except duckdb.Error as error:
        raise QueryError(error_message(error)) from error


def describe_views(connection: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """The views: `view`, `comment` (grain and meaning), `columns` (a list of name and type)."""
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
    """DuckDB's message in one line, without its drawing of the statement."""
    return " ".join(str(error).split("\n\nLINE ")[0].split())


def read_only_statement(
    connection: duckdb.DuckDBPyConnection, text: str, parameters: Mapping[str, Any] | None = None
) -> str:
    """The one statement of a text, if it does no more than read.

    Raises:
        QueryError: another number of statements, or one that does more.
        duckdb.Error: SQL that DuckDB refuses.
    """
    statements = connection.extract_statements(text)
    if len(statements) != 1:
        raise QueryError(f"{len(statements)} statements; give exactly one SELECT")
    (statement,) = statements
    # DuckDB expands a PIVOT without an IN list to several statements, and COPY in a WITH clause
    # is a SELECT to it.
    is_pivot = statement.type == duckdb.StatementType.MULTI and not re.search(
        r"\bcopy\b", text, re.IGNORECASE
    )
    if statement.type != duckdb.StatementType.SELECT and not is_pivot:
        kind = statement.type.name
        raise QueryError(f"{kind} is more than reading; the lake takes SELECT, FROM, PIVOT, ...")
    # Only what reads can be a subquery.
    explained = f"explain select * from (\n{statement.query.rstrip().rstrip(';')}\n)"
    connection.execute(explained, parameters or None)
    return statement.query


def _create_view_sql(table: Table, sources: list[tuple[Location, Manifest]]) -> str:
    columns = ", ".join(table.schema)
    whole = [path for path, part in sources if part.run_ids == part.all_run_ids]
    selects = [_select_sql(columns, whole)] if whole else []
    selects += [
        f"{_select_sql(columns, [path])} where {table.owner_column} in {_sql_list(part.run_ids)}"
        for path, part in sources
        if part.run_ids != part.all_run_ids
    ]
    if not selects:
        nulls = ", ".join(f"null::{_duckdb_type(t)} as {name}" for name, t in table.schema.items())
        selects = [f"select {nulls} where false"]
    return f"create or replace view lake.{table.name} as {' union all '.join(selects)}"


def _select_sql(columns: str, paths: list[Location]) -> str:
    return f"select {columns} from read_parquet({_sql_list(paths)}, hive_partitioning = false)"


def _duckdb_type(dtype: pl.DataType) -> str:
    if isinstance(dtype, pl.List):
        return f"{_duckdb_type(_dtype_instance(dtype.inner))}[]"
    if isinstance(dtype, pl.Struct):
        fields = (
            f'"{field.name}" {_duckdb_type(_dtype_instance(field.dtype))}' for field in dtype.fields
        )
        return f"struct({', '.join(fields)})"
    return DUCKDB_TYPES[dtype]


def _dtype_instance(dtype: pl.DataType | pl.datatypes.DataTypeClass) -> pl.DataType:
    return dtype if isinstance(dtype, pl.DataType) else dtype()


def _sql_list(values: Iterable[Location | str]) -> str:
    quoted = ("'" + str(value).replace("'", "''") + "'" for value in values)
    return f"[{', '.join(quoted)}]"


def _raise_if_damaged(lake: Location, error: duckdb.Error) -> None:
    """Blame the file where one is damaged: DuckDB's own message may not even name it."""
    for finding in find_damage(lake):
        raise CorruptFile(f"{finding.file}: {finding.problem}; {finding.remedy}") from error
