"""The snapshot: a lake as one DuckDB file that opens without PruneLake and its Parquet files."""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from prunelake.errors import CorruptFile, LakeError, one_line
from prunelake.lake import leases
from prunelake.lake.locks import PUBLISH_LOCK, locked
from prunelake.lake.objects import ObjectPath
from prunelake.lake.read import (
    Analyse,
    analysed_run_ids,
    check_format,
    profile_ids,
    run_ids,
    unanalysed_run_ids,
)
from prunelake.lake.storage import Location, LocationT
from prunelake.lake.verify import find_damage
from prunelake.lake.view_files import view_statements, views_hash
from prunelake.lake.views import connect
from prunelake.schema.analysis_tables import ANALYSIS_VERSION
from prunelake.schema.table import FORMAT_VERSION
from prunelake.schema.tables import ALL_TABLES
from prunelake.spec import content_hash

SNAPSHOT_FILE = "prunelake.duckdb"

SNAPSHOT_ID_KEY, VIEWS_HASH_KEY = (
    "snapshot-id",
    "views-hash",
)  # beside the object, as its table `snapshot` has them

# The oldest DuckDB that PruneLake runs on: an analyst's own may be older than the one here.
DUCKDB_STORAGE_VERSION = "v1.4.0"

MATERIALISED_VIEWS = (
    "correlations",
    "metrics",
    "deltas",
    "verdicts",
    "headline_keys",
    "headline_metrics",
)
"""Views that are asked most, or take long: a snapshot stores their rows as `stored.<view>`."""


def snapshot_id(runs: Iterable[str], analysed: Iterable[str], profiles: Iterable[str] = ()) -> str:
    """What a snapshot of these runs, analyses and profiles is called: 16 hex digits (SHA-256)."""
    held = {
        "format_version": FORMAT_VERSION,
        "analysis_version": ANALYSIS_VERSION,
        "run_ids": sorted(runs),
        "analysed": sorted(analysed),
    }
    # Younger than the lake: a snapshot without profiles keeps the name it had.
    profiled = sorted(profiles)
    return content_hash(held | ({"profiles": profiled} if profiled else {}))[:16]


def is_current(lake: Location) -> bool:
    """Whether the lake's snapshot holds all that the lake has, and the views of this version.

    That is its complete runs, their analyses and its profiles. False also where there is no
    snapshot, or none that opens.

    Raises:
        WrongFormat, CorruptFile: as `publish`.
    """
    found = (
        _object_ids(lake / SNAPSHOT_FILE)
        if isinstance(lake, ObjectPath)
        else _file_ids(lake / SNAPSHOT_FILE)
    )
    if found is None:
        return False
    held = snapshot_id(run_ids(lake), analysed_run_ids(lake), profile_ids(lake))
    return found == (held, views_hash())


def _file_ids(path: Path) -> tuple[str, str] | None:
    try:
        # Connecting to its path would give what this process has open, perhaps an older file.
        with duckdb.connect() as connection:
            quoted = str(path).replace("'", "''")
            connection.execute(f"attach '{quoted}' as published (read_only)")
            connection.execute("select snapshot_id, views_hash from published.snapshot")
            return connection.fetchone()
    except duckdb.Error:
        return None


def _object_ids(path: ObjectPath) -> tuple[str, str] | None:
    try:
        _, beside = path.metadata()
    except FileNotFoundError:
        return None
    return beside.get(SNAPSHOT_ID_KEY, ""), beside.get(VIEWS_HASH_KEY, "")


def publish(lake: LocationT, analyse: Analyse) -> LocationT:
    """Write `<lake>/prunelake.duckdb` anew, unless it is current; its path.

    `analyse` is called first for each run without an analysis. The file holds every complete run
    and every profile as tables `lake.*`, the views of sql/ above them (`MATERIALISED_VIEWS` are
    stored), and one row about itself in `snapshot`. It appears whole. A reader that has the old
    file open keeps it, even with a new connection to the path in the same process, since DuckDB
    shares the files that a process has open.

    Raises:
        LakeError: no such folder, or a snapshot that cannot be made.
        WrongFormat: a run of another format version.
        CorruptFile: a file of the lake that is not what was written; all are checked.
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
                built = _build_snapshot(source, folder / SNAPSHOT_FILE)
            if isinstance(path, ObjectPath):
                leases.require_leases(path)
                path.upload(
                    str(folder / SNAPSHOT_FILE),
                    {SNAPSHOT_ID_KEY: built, VIEWS_HASH_KEY: views_hash()},
                )
                return path
            # What someone wrote into the old snapshot and did not close would break the new one.
            path.with_name(f"{SNAPSHOT_FILE}.wal").unlink(missing_ok=True)
            (folder / SNAPSHOT_FILE).replace(path)
    except (OSError, duckdb.Error) as error:
        raise LakeError(
            f"{path} could not be made: {one_line(error)}; make room or fix the permissions "
            "and publish again"
        ) from error
    return path


@contextmanager
def _build_folder(lake: Location) -> Iterator[Path]:
    """An empty folder for what is not finished, of one publisher at a time; gone afterwards."""
    if isinstance(lake, ObjectPath):
        with locked(lake, PUBLISH_LOCK), TemporaryDirectory(prefix="prunelake-") as temporary:
            yield Path(temporary)
        return
    folder = lake / ".publish"
    with locked(lake, PUBLISH_LOCK):
        # A publisher that was killed left it.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder)


def _build_snapshot(source: duckdb.DuckDBPyConnection, path: Path) -> str:
    """Write the snapshot of a lake; its snapshot_id."""
    with duckdb.connect(
        path,
        config={
            "python_enable_replacements": "false",
            "storage_compatibility_version": DUCKDB_STORAGE_VERSION,
        },
    ) as snapshot:
        snapshot.execute("set TimeZone = 'UTC'")
        snapshot.execute("create schema lake")
        snapshot.execute("create schema stored")
        for table in ALL_TABLES.values():
            rows = source.sql(f"from lake.{table.name}")
            snapshot.register("arriving", rows.to_arrow_reader())
            key = ", ".join(table.key)
            snapshot.execute(f"create table lake.{table.name} as from arriving order by {key}")
            snapshot.unregister("arriving")
            snapshot.execute(f"comment on table lake.{table.name} is '{table.grain}'")
        for statements in view_statements():
            snapshot.execute(statements)
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
        snapshot.execute(
            "create table snapshot (snapshot_id varchar, created_at timestamp with time zone, "
            "run_count integer, code_version varchar, format_version integer, views_hash varchar)"
        )
        snapshot.execute(
            "insert into snapshot values (?, ?, ?, ?, ?, ?)",
            [
                found := snapshot_id(runs, analyses, profiles),
                datetime.now(UTC),
                len(runs),
                version("prunelake"),
                FORMAT_VERSION,
                views_hash(),
            ],
        )
        snapshot.execute(
            "comment on table snapshot is 'one row. What this file holds: snapshot_id is the hash "
            "of its run ids, of those analysed, of its profile ids and of the versions of format "
            "and analysis, views_hash that of its views.'"
        )
    return found


def _materialise(snapshot: duckdb.DuckDBPyConnection, view: str) -> None:
    """Store the rows of a view, and let the view read them; its name, columns and comment stay."""
    described = "select comment from duckdb_views() where schema_name = 'main' and view_name = ?"
    ((comment,),) = snapshot.execute(described, [view]).fetchall()
    quoted = comment.replace("'", "''")
    columns = ", ".join(snapshot.sql(f"from {view}").columns)
    snapshot.execute(f"create table stored.{view} as from {view} order by all")
    snapshot.execute(f"create or replace view {view} as select {columns} from stored.{view}")
    for what in (f"table stored.{view}", f"view {view}"):
        snapshot.execute(f"comment on {what} is '{quoted}'")
