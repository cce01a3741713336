"""Query a lake with DuckDB: the tables as relations `lake.*`, and the views of sql/."""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import duckdb
import polars as pl

from prunelake.errors import QueryError, one_line
from prunelake.lake.files.verified import BlockChecks, retry_without_damage
from prunelake.lake.read import read_content, require_runs
from prunelake.lake.sql.bound_query import BoundQuery, Connection, error_message, sql_literal
from prunelake.lake.sql.relations import damaged_files_sql, relation_sql
from prunelake.lake.sql.view_template import copy_views
from prunelake.lake.storage.location import Location
from prunelake.lake.storage.reading import let_duckdb_read
from prunelake.schema.tables import ALL_TABLES


def connect(lake: Location, run_ids: Collection[str] | None = None) -> Connection:
    """An in-memory database with the views of the lake, over the runs that are complete now.

    With `run_ids` it has these runs only, and opens no files of other single runs. The schema
    `lake` has every table: analysis tables have the analyses of this version, profile tables have
    all profiles. A damaged file hides its run; `lake.damaged_files` lists these. The connection
    reads no files outside the lake, and its settings are locked. SQL could still overwrite files of
    the lake, so run the SQL of users with `select_read_only`.

    Raises:
        LakeError: no such folder, or no such run.
        WrongFormat: a run of another format version.
        CorruptFile: a damaged file of a run in `run_ids`.
    """
    content = read_content(lake, run_ids)
    require_runs(lake, content, run_ids)
    connection = duckdb.connect(config={"python_enable_replacements": "false"})
    try:
        let_duckdb_read(connection, lake, BlockChecks(content.listed))
        connection.execute("set TimeZone = 'UTC'")
        copy_views(connection)
        readable: list[Location] = []
        for table in ALL_TABLES.values():
            sources = [(path.resolve(), manifest) for path, manifest in content.files(table)]
            if sources:  # without files, the copied view of an empty table stays
                connection.execute(relation_sql(table, sources))
            readable += [path for path, _ in sources]
        if content.damaged:
            connection.execute(damaged_files_sql(lake, content.damaged))
        allowed_paths = sql_literal([str(path) for path in readable])
        connection.execute(f"set allowed_paths = {allowed_paths}")
        connection.execute("set enable_external_access = false")
        connection.execute("set lock_configuration = true")
    except duckdb.Error as error:
        connection.close()
        raise QueryError(f"{error_message(error)}; `prunelake doctor` checks the files") from error
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
    """An answer from a new connection.

    Raises:
        QueryError: as `ask`.
        LakeError, WrongFormat, CorruptFile: as `query`.
    """

    def answer() -> pl.DataFrame:
        with connect(lake) as connection:
            return ask(connection)

    # A damaged object is found when it is read; then its run is hidden.
    return retry_without_damage(answer)


def keep_rows(connection: Connection, view: str) -> None:
    """Compute the rows of a view once, for all later queries of a connection from `connect`."""
    connection.execute(f"create table kept_{view} as from {view}")
    connection.execute(f"create or replace view {view} as from kept_{view}")


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
