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
from prunelake.lake.locks import PUBLISHING, locked
from prunelake.lake.objects import ObjectPath
from prunelake.lake.read import analysed, check_format, profile_ids, run_ids, unanalysed
from prunelake.lake.storage import Location, Place
from prunelake.lake.verify import damage
from prunelake.lake.views import connect, sql_folder
from prunelake.schema.analysis_tables import ANALYSIS_VERSION
from prunelake.schema.table import FORMAT_VERSION
from prunelake.schema.tables import EVERY
from prunelake.spec import content_hash

NAME = "prunelake.duckdb"

ID_KEY, VIEWS_KEY = (
    "snapshot-id",
    "views-hash",
)  # beside the object, as its table `snapshot` has them

# The oldest DuckDB that PruneLake runs on: an analyst's own may be older than the one here.
STORAGE_VERSION = "v1.4.0"

MATERIALISED = ("correlations", "metrics", "deltas", "verdicts")
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
    found = _object_says(lake / NAME) if isinstance(lake, ObjectPath) else _file_says(lake / NAME)
    if found is None:
        return False
    held = snapshot_id(run_ids(lake), analysed(lake), profile_ids(lake))
    return found == (held, views_hash())


def _file_says(path: Path) -> tuple[str, str] | None:
    try:
        # Connecting to its path would give what this process has open, perhaps an older file.
        with duckdb.connect() as connection:
            quoted = str(path).replace("'", "''")
            connection.execute(f"attach '{quoted}' as published (read_only)")
            connection.execute("select snapshot_id, views_hash from published.snapshot")
            return connection.fetchone()
    except duckdb.Error:
        return None


def _object_says(path: ObjectPath) -> tuple[str, str] | None:
    try:
        _, beside = path.metadata()
    except FileNotFoundError:
        return None
    return beside.get(ID_KEY, ""), beside.get(VIEWS_KEY, "")


def publish(lake: Place) -> Place:
    """Write `<lake>/prunelake.duckdb` anew, unless it is current; its path.

    Runs without an analysis are analysed first. It holds the rows of every complete run, and of
    every profile, as tables `lake.*`, the views of sql/ above them (some stored, see
    `MATERIALISED`), and in `snapshot` one row on itself. The file appears whole: who has the old
    one open reads on in the old one (also by a new connection to the path in the same process, as
    DuckDB shares what a process has open).

    Raises:
        LakeError: no such folder, or a snapshot that cannot be made.
        WrongFormat: a run of another format version.
        CorruptFile: a file of the lake that is not what was written; all are checked.
    """
    from prunelake.analysis.analyse import analyse

    check_format(lake)
    path = lake / NAME
    try:
        with _building(lake) as folder:
            for run_id in unanalysed(lake):
                analyse(lake, run_id)
            if is_current(lake):
                return path
            with connect(lake) as source:
                for finding in damage(lake):
                    raise CorruptFile(f"{finding.file}: {finding.problem}; {finding.remedy}")
                built = _build(source, folder / NAME)
            if isinstance(path, ObjectPath):
                leases.check(path)
                path.upload(str(folder / NAME), {ID_KEY: built, VIEWS_KEY: views_hash()})
                return path
            # What someone wrote into the old snapshot and did not close would break the new one.
            path.with_name(f"{NAME}.wal").unlink(missing_ok=True)
            (folder / NAME).replace(path)
    except (OSError, duckdb.Error) as error:
        raise LakeError(
            f"{path} could not be made: {one_line(error)}; make room or fix the permissions "
            "and publish again"
        ) from error
    return path


@contextmanager
def _building(lake: Location) -> Iterator[Path]:
    """An empty folder for what is not finished, of one publisher at a time; gone afterwards."""
    if isinstance(lake, ObjectPath):
        with locked(lake, PUBLISHING), TemporaryDirectory(prefix="prunelake-") as temporary:
            yield Path(temporary)
        return
    folder = lake / ".publish"
    with locked(lake, PUBLISHING):
        # A publisher that was killed left it.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder)


def _build(source: duckdb.DuckDBPyConnection, path: Path) -> str:
    """Write the snapshot of a lake; its snapshot_id."""
    with duckdb.connect(
        path,
        config={
            "python_enable_replacements": "false",
            "storage_compatibility_version": STORAGE_VERSION,
        },
    ) as snapshot:
        snapshot.execute("set TimeZone = 'UTC'")
        snapshot.execute("create schema lake")
        snapshot.execute("create schema stored")
        for table in EVERY.values():
            rows = source.sql(f"from lake.{table.name}")
            snapshot.register("arriving", rows.to_arrow_reader())
            key = ", ".join(table.key)
            snapshot.execute(f"create table lake.{table.name} as from arriving order by {key}")
            snapshot.unregister("arriving")
            snapshot.execute(f"comment on table lake.{table.name} is '{table.grain}'")
        for file in sorted(sql_folder().glob("*.sql")):
            snapshot.execute(file.read_text(encoding="utf-8"))
        for view in MATERIALISED:
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


def views_hash() -> str:
    """What the views of this version are called: 16 hex digits of a SHA-256 over sql/."""
    files = sorted(sql_folder().glob("*.sql"))
    return content_hash([file.read_text(encoding="utf-8") for file in files])[:16]
