"""A database file with every view over empty tables, from which connections copy their views.

When DuckDB creates a view, it binds it down to the tables. This takes several times as long as
copying all views from a file. A process makes the file when it first connects, and deletes it at
exit.
"""

import os
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock

import duckdb

from prunelake.lake.sql.bound_query import Connection, attach, sql_identifier
from prunelake.lake.sql.relations import relation_sql
from prunelake.lake.sql.view_files import view_statements
from prunelake.schema.tables import ALL_TABLES

_lock = Lock()


def copy_views(connection: Connection) -> None:
    """Create the schema `lake` with empty tables, as views, and the views of sql/ that read them.

    The database of the connection must be new: a file or `:memory:`.
    """
    empty_tables = (relation_sql(table, []) for table in ALL_TABLES.values())
    statements = ("create schema lake", *empty_tables, *view_statements())
    with _lock:
        folder = _template_folder(os.getpid(), statements)
    ((database,),) = connection.execute("select current_database()").fetchall()
    attach(connection, Path(folder.name) / "views.duckdb", "view_template")
    connection.execute(f"copy from database view_template to {sql_identifier(database)} (schema)")
    connection.execute("detach view_template")


@cache
def _template_folder(pid: int, statements: tuple[str, ...]) -> "TemporaryDirectory[str]":  # noqa: ARG001  # a forked process makes its own
    folder = TemporaryDirectory(prefix="prunelake-views-")
    try:
        with duckdb.connect(Path(folder.name) / "views.duckdb") as template:
            template.execute("set TimeZone = 'UTC'")
            for statement in statements:
                template.execute(statement)
    except BaseException:
        folder.cleanup()
        raise
    return folder
