"""Publish a lake as a snapshot: one DuckDB file that needs neither PruneLake nor Parquet files."""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from prunelake.errors import CorruptFile, LakeError, one_line
from prunelake.identity import content_hash
from prunelake.lake.commit import Analyse
from prunelake.lake.files.damage import find_damage
from prunelake.lake.files.paths import SNAPSHOT_FILE
from prunelake.lake.read import (
    analysed_run_ids,
    check_format,
    profile_ids,
    run_ids,
    unanalysed_run_ids,
)
from prunelake.lake.sql.bound_query import Connection, attach, sql_literal
from prunelake.lake.sql.view_files import views_hash
from prunelake.lake.sql.view_template import copy_views
from prunelake.lake.sql.views import connect
from prunelake.lake.storage import leases
from prunelake.lake.storage.location import Location, LocationT
from prunelake.lake.storage.locks import PUBLISH_LOCK, locked
from prunelake.lake.storage.objects import ObjectPath
from prunelake.schema.analysis_tables import ANALYSIS_VERSION
from prunelake.schema.table import FORMAT_VERSION
from prunelake.schema.tables import ALL_TABLES

SNAPSHOT_ID_KEY = "snapshot-id"
VIEWS_HASH_KEY = "views-hash"
"""Metadata of the snapshot in a store; the table `snapshot` in the file has the same values."""

DUCKDB_STORAGE_VERSION = "v1.4.0"
"""The oldest DuckDB that can open a snapshot: an analyst's DuckDB may be older than this one."""

MATERIALISED_VIEWS = (
    "correlations",
    "metrics",
    "deltas",
    "verdicts",
    "headline_keys",
    "headline_metrics",
)
"""Frequent or slow views: a snapshot stores their rows as the table `stored.<view>`."""


def snapshot_id(runs: Iterable[str], analysed: Iterable[str], profiles: Iterable[str] = ()) -> str:
    """The id of a snapshot of these runs, analyses and profiles: 16 hex digits (SHA-256)."""
    content = {
        "format_version": FORMAT_VERSION,
        "analysis_version": ANALYSIS_VERSION,
        "run_ids": sorted(runs),
        "analysed": sorted(analysed),
        "profiles": sorted(profiles),
    }
    return content_hash(content)[:16]


def is_current(lake: Location) -> bool:
    """Whether the snapshot has all runs, analyses and profiles, and the views of this version.

    False if there is no snapshot, or if it cannot be opened.

    Raises:
        WrongFormat, CorruptFile: as `publish`.
    """
    published = (
        _object_ids(lake / SNAPSHOT_FILE)
        if isinstance(lake, ObjectPath)
        else _file_ids(lake / SNAPSHOT_FILE)
    )
    if published is None:
        return False
    current_id = snapshot_id(run_ids(lake), analysed_run_ids(lake), profile_ids(lake))
    return published == (current_id, views_hash())


def _file_ids(path: Path) -> tuple[str, str] | None:
    """The snapshot id and the hash of the views in a snapshot; None if it cannot be opened."""
    try:
        # A connection to the path itself would reuse the file that this process has open. That file
        # may be older.
        with duckdb.connect() as connection:
            attach(connection, path, "published")
            connection.execute("select snapshot_id, views_hash from published.snapshot")
            return connection.fetchone()
    except duckdb.Error:
        return None


def _object_ids(path: ObjectPath) -> tuple[str, str] | None:
    try:
        _, metadata = path.metadata()
    except FileNotFoundError:
        return None
    return metadata.get(SNAPSHOT_ID_KEY, ""), metadata.get(VIEWS_HASH_KEY, "")


def publish(lake: LocationT, analyse: Analyse) -> LocationT:
    """Write `<lake>/prunelake.duckdb`, unless it is current; return its path.

    `analyse` is called first for each run without an analysis. The file holds every complete run
    and every profile as tables `lake.*`, the views of sql/ on top of them (with the rows of
    `MATERIALISED_VIEWS` stored), and one row about itself in `snapshot`. It replaces the old file
    as a whole. A process with the old file open keeps reading it, even through new connections to
    the path: DuckDB shares open files within a process.

    Raises:
        LakeError: no such folder, or a snapshot that cannot be written.
        WrongFormat: a run of another format version.
        CorruptFile: a damaged file in the lake; all files are checked.
    """
    check_format(lake)
    path = lake / SNAPSHOT_FILE
    try:
        with _build_folder(lake) as folder:
            for run_id in unanalysed_run_ids(lake):
                analyse(lake, run_id)
            if is_current(lake):
                return path
            with connect(lake) as source:
                for finding in find_damage(lake):
                    raise CorruptFile(f"{finding.file}: {finding.problem}; {finding.remedy}")
                new_id = _build_snapshot(source, folder / SNAPSHOT_FILE)
            if isinstance(path, ObjectPath):
                leases.require_leases(path)
                path.upload(
                    str(folder / SNAPSHOT_FILE),
                    {SNAPSHOT_ID_KEY: new_id, VIEWS_HASH_KEY: views_hash()},
                )
                return path
            # A log of an unfinished write belongs to the old file; DuckDB would apply it to the new
            # file.
            path.with_name(f"{SNAPSHOT_FILE}.wal").unlink(missing_ok=True)
            (folder / SNAPSHOT_FILE).replace(path)
    except (OSError, duckdb.Error) as error:
        raise LakeError(
            f"{path} could not be written: {one_line(error)}; make room or fix the permissions "
            "and publish again"
        ) from error
    return path


@contextmanager
def _build_folder(lake: Location) -> Iterator[Path]:
    """An empty folder for the snapshot of one publisher at a time; deleted afterwards."""
    if isinstance(lake, ObjectPath):
        with locked(lake, PUBLISH_LOCK), TemporaryDirectory(prefix="prunelake-") as temporary:
            yield Path(temporary)
        return
    folder = lake / ".publish"
    with locked(lake, PUBLISH_LOCK):
        # A killed publisher may have left the folder.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder)


def _build_snapshot(source: Connection, path: Path) -> str:
    """Write the snapshot of a lake; return its id."""
    with duckdb.connect(
        path,
        config={
            "python_enable_replacements": "false",
            "storage_compatibility_version": DUCKDB_STORAGE_VERSION,
        },
    ) as snapshot:
        snapshot.execute("set TimeZone = 'UTC'")
        copy_views(snapshot)
        snapshot.execute("create schema stored")
        for table in ALL_TABLES.values():
            rows = source.sql(f"from lake.{table.name}")
            snapshot.register("source_rows", rows.to_arrow_reader())
            key = ", ".join(f"{name} nulls first" for name in table.key)
            # The copied views read empty views with the same columns.
            snapshot.execute(f"drop view lake.{table.name}")
            snapshot.execute(f"create table lake.{table.name} as from source_rows order by {key}")
            snapshot.unregister("source_rows")
            grain = sql_literal(table.grain)
            snapshot.execute(f"comment on table lake.{table.name} is {grain}")
        for view in MATERIALISED_VIEWS:
            _materialise(snapshot, view)
        runs, analyses, profiles = (
            [owner for (owner,) in snapshot.sql(f"select {ids} from lake.{name}").fetchall()]
            for name, ids in (
                ("runs", "run_id"),
                ("analyses", "run_id"),
                ("profiles", "profile_id"),
            )
        )
        new_id = snapshot_id(runs, analyses, profiles)
        snapshot.execute(
            "create table snapshot (snapshot_id varchar, created_at timestamp with time zone, "
            "run_count integer, code_version varchar, format_version integer, views_hash varchar)"
        )
        snapshot.execute(
            "insert into snapshot values (?, ?, ?, ?, ?, ?)",
            [
                new_id,
                datetime.now(UTC),
                len(runs),
                version("prunelake"),
                FORMAT_VERSION,
                views_hash(),
            ],
        )
        snapshot.execute(
            "comment on table snapshot is 'one row about this file: snapshot_id is the hash of its "
            "run ids, analysed run ids, profile ids, format version and analysis version; "
            "views_hash is the hash of its views.'"
        )
    return new_id


def _materialise(snapshot: Connection, view: str) -> None:
    """Store the rows of a view in a table, and let the view read that table; its comment stays."""
    comments = "select comment from duckdb_views() where schema_name = 'main' and view_name = ?"
    ((comment,),) = snapshot.execute(comments, [view]).fetchall()
    columns = ", ".join(snapshot.sql(f"from {view}").columns)
    snapshot.execute(f"create table stored.{view} as from {view} order by all")
    snapshot.execute(f"create or replace view {view} as select {columns} from stored.{view}")
    for relation in (f"table stored.{view}", f"view {view}"):
        snapshot.execute(f"comment on {relation} is {sql_literal(comment)}")
