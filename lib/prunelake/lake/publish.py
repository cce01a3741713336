"""Publish a lake as a snapshot: one DuckDB file that needs neither PruneLake nor Parquet files."""

from contextlib import suppress
from pathlib import Path

import duckdb

from prunelake.errors import LakeError, one_line
from prunelake.identity import content_hash
from prunelake.lake.commit import Analyse
from prunelake.lake.files.paths import SNAPSHOT_FILE
from prunelake.lake.files.verified import retry_without_damage
from prunelake.lake.read import LakeContent, read_content, require_lake, unanalysed_run_ids
from prunelake.lake.snapshot_file import entries_of, write_snapshot
from prunelake.lake.sql.bound_query import attach
from prunelake.lake.sql.view_files import views_hash
from prunelake.lake.storage.location import (
    Location,
    LocationT,
    delete,
    download,
    install,
    local_path,
    metadata_of,
    work_folder,
)
from prunelake.lake.storage.locks import PUBLISH_LOCK, locked
from prunelake.schema.analysis_tables import ANALYSIS_VERSION
from prunelake.schema.table import FORMAT_VERSION

SNAPSHOT_ID_KEY = "snapshot"
VIEWS_HASH_KEY = "views"
"""Metadata of the snapshot in a store; the table `snapshot` in the file has the same values."""

BUILD_FOLDER = ".publish"
"""The folder in a local lake where a new snapshot is built."""


def snapshot_id(content: LakeContent) -> str:
    """The id of a snapshot of the runs, analyses and profiles of a lake: 16 hex digits (SHA-256).

    A run that was retired and computed again changes it.
    """
    versions = {"format_version": FORMAT_VERSION, "analysis_version": ANALYSIS_VERSION}
    return content_hash({**versions, "entries": sorted(entries_of(content))})[:16]


def is_current(lake: Location) -> bool:
    """Whether the snapshot has all runs, analyses and profiles, and the views of this version.

    False if there is no snapshot, or if it cannot be opened.

    Raises:
        WrongFormat, CorruptFile: as `publish`.
    """
    published = _published_ids(lake)
    if published is None:
        return False
    return published == (snapshot_id(read_content(lake)), views_hash())


def _published_ids(lake: Location) -> tuple[str, str] | None:
    """The snapshot id and the hash of the views of the snapshot; None if it cannot be opened."""
    if folder := local_path(lake):
        return _file_ids(folder / SNAPSHOT_FILE)
    try:
        metadata = metadata_of(lake / SNAPSHOT_FILE)
    except FileNotFoundError:
        return None
    return metadata.get(SNAPSHOT_ID_KEY, ""), metadata.get(VIEWS_HASH_KEY, "")


def _file_ids(path: Path) -> tuple[str, str] | None:
    try:
        # A connection to the path itself would reuse the file that this process has open. That file
        # may be older.
        with duckdb.connect() as connection:
            attach(connection, path, "published")
            connection.execute("select snapshot_id, views_hash from published.snapshot")
            return connection.fetchone()
    except duckdb.Error:
        return None


def publish(lake: LocationT, analyse: Analyse) -> LocationT:
    """Write `<lake>/prunelake.duckdb`, unless it is current; return its path.

    `analyse` is called first for each run without an analysis. The file holds every complete run
    and every profile as tables `lake.*`, the views of sql/ on top of them (with the rows of
    `MATERIALISED_VIEWS` stored), and one row about itself in `snapshot`. A run with a damaged file
    is left out; the view `damaged_runs` names it.

    The new file replaces the old file as a whole. A process with the old file open keeps reading
    it, even through new connections to the path: DuckDB shares open files within a process.

    Raises:
        LakeError: no such folder, or a snapshot that cannot be written.
        WrongFormat: a run of another format version.
    """
    require_lake(lake)
    return retry_without_damage(lambda: _publish(lake, analyse))


def _publish(lake: LocationT, analyse: Analyse) -> LocationT:
    path = lake / SNAPSHOT_FILE
    try:
        with locked(lake, PUBLISH_LOCK), work_folder(lake, BUILD_FOLDER) as folder:
            for run_id in unanalysed_run_ids(lake):
                analyse(lake, run_id)
            content = read_content(lake)
            new_id = snapshot_id(content)
            if _published_ids(lake) == (new_id, views_hash()):
                return path
            new_file, previous = folder / "new.duckdb", folder
            with suppress(FileNotFoundError):
                previous = download(path, folder)
            write_snapshot(new_file, lake, content, new_id, previous)
            # A log of an unfinished write belongs to the old file; DuckDB would apply it to the new
            # file.
            delete(path.with_name(f"{SNAPSHOT_FILE}.wal"))
            metadata = {SNAPSHOT_ID_KEY: new_id, VIEWS_HASH_KEY: views_hash()}
            install(new_file, path, metadata)
    except (OSError, duckdb.Error) as error:
        raise LakeError(
            f"{path} could not be written: {one_line(error)}; make room or fix the permissions "
            "and publish again"
        ) from error
    return path
