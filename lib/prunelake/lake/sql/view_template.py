"""A database file with every view over empty tables, from which connections copy their views.

When DuckDB creates a view, it binds it down to the tables. This takes several times as long as
copying all views from a file. The first process that connects makes the file in the cache; the
others find it. Other SQL files and other versions of DuckDB have files of their own.
"""

from pathlib import Path

import duckdb

from prunelake.cache_folder import cache_folder
from prunelake.identity import content_hash
from prunelake.lake.sql.bound_query import Connection, attach, sql_identifier
from prunelake.lake.sql.relations import damaged_files_sql, relation_sql
from prunelake.lake.sql.view_files import view_statements
from prunelake.lake.storage.locks import locked
from prunelake.schema.tables import ALL_TABLES

MAX_TEMPLATES = 4
"""How many files the cache keeps: half a megabyte each, one for each version in use."""


def copy_views(connection: Connection) -> None:
    """Create the schema `lake` with empty tables, as views, and the views of sql/ that read them.

    The database of the connection must be new: a file or `:memory:`.
    """
    empty_tables = (relation_sql(table, []) for table in ALL_TABLES.values())
    statements = (
        "create schema lake",
        *empty_tables,
        damaged_files_sql(None, []),
        *view_statements(),
    )
    try:
        template = _template(statements)
    except (OSError, RuntimeError, duckdb.IOException):  # no cache can be written here
        _create(connection, statements)
        return
    ((database,),) = connection.execute("select current_database()").fetchall()
    try:
        attach(connection, template, "view_template")
    except duckdb.Error:  # damaged, or removed since it was found
        template.unlink(missing_ok=True)
        attach(connection, _template(statements), "view_template")
    connection.execute(f"copy from database view_template to {sql_identifier(database)} (schema)")
    connection.execute("detach view_template")


def _template(statements: tuple[str, ...]) -> Path:
    """The file of these statements; it is made if the cache lacks it.

    Raises:
        OSError, duckdb.IOException: the cache cannot be written.
        RuntimeError: this user has no home folder.
    """
    folder = cache_folder() / "views"
    template = folder / f"{content_hash([duckdb.__version__, *statements])[:16]}.duckdb"
    if template.exists():
        return template
    with locked(folder, "views.lock"):
        if not template.exists():
            # Only the holder of the lock writes this file, so a killed process left an old file.
            unfinished = folder / "unfinished.duckdb"
            for path in (unfinished, unfinished.with_suffix(".duckdb.wal")):
                path.unlink(missing_ok=True)
            with duckdb.connect(unfinished) as connection:
                connection.execute("set TimeZone = 'UTC'")
                _create(connection, statements)
            unfinished.rename(template)
            files = sorted(folder.glob("*.duckdb"), key=lambda path: path.stat().st_mtime_ns)
            for outdated in files[:-MAX_TEMPLATES]:
                outdated.unlink(missing_ok=True)
    return template


def _create(connection: Connection, statements: tuple[str, ...]) -> None:
    for statement in statements:
        connection.execute(statement)
