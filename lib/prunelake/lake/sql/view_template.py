"""A database file with every view over empty tables, from which connections copy their views.

DuckDB binds each view down to the tables when it creates it, which takes several times as long as
copying all views from a file. A process makes the file when it first connects, and deletes it at
exit.
"""

import os
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock

import duckdb

from prunelake.lake.sql.bound_query import Connection, attach

_lock = Lock()


def copy_views(connection: Connection, statements: tuple[str, ...]) -> None:
    """Create everything that `statements` create, in the schemas of a new in-memory database."""
    with _lock:
        folder = _template_folder(os.getpid(), statements)
    attach(connection, Path(folder.name) / "views.duckdb", "view_template")
    connection.execute("copy from database view_template to memory (schema)")
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
