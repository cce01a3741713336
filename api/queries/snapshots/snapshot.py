"""Opens the published snapshot read-only, and each new snapshot as soon as it is published."""

import logging
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from prunelake.errors import LimitExceeded, NoSnapshot
from prunelake.lake.files.paths import SNAPSHOT_FILE
from prunelake.lake.sql.bound_query import BoundQuery, Connection, attach
from prunelake.lake.sql.view_files import views_hash

from .latest_cache import LatestCache, result_cache, row_cache, sized_cache
from .snapshot_mirror import SnapshotMirror

log = logging.getLogger(__name__)

FileStamp = tuple[int, int, int]

ReadRows = Callable[[BoundQuery], pl.DataFrame]
"""Reads the rows of a query: of a connection, of a snapshot, or of a cache."""


@dataclass(frozen=True)
class Snapshot:
    """One published state of a lake, with an open connection to it."""

    id: str
    created_at: datetime
    run_count: int
    connection: Connection
    max_seconds: float | None = None
    kept_results: LatestCache[Any] = field(default_factory=result_cache, repr=False, compare=False)
    kept_runs: LatestCache[Any] = field(default_factory=sized_cache, repr=False, compare=False)
    _kept: LatestCache[pl.DataFrame] = field(default_factory=row_cache, repr=False, compare=False)

    @contextmanager
    def cursor(self) -> Iterator[Connection]:
        """A separate connection for one request; DuckDB stops a query after `max_seconds`.

        Raises:
            LimitExceeded: a query was stopped.
        """
        with open_cursor(self.connection) as cursor:
            try:
                yield cursor
            except duckdb.InterruptException as error:
                raise time_limit_exceeded(self.max_seconds or 0) from error

    def rows(self, query: BoundQuery) -> pl.DataFrame:
        """The rows of a query.

        Raises:
            LimitExceeded, QueryError: as `cursor` and `BoundQuery.rows`.
        """
        with self.cursor() as cursor:
            return query.rows(cursor)

    def kept_rows(self, query: BoundQuery) -> pl.DataFrame:
        """As `rows`, for queries that several charts or findings share: later calls are free."""
        return self._kept.get(query.sql_with_values, lambda: self.rows(query))

    def records(self, query: BoundQuery) -> list[dict[str, Any]]:
        """The rows of a query as Python values by column name.

        Raises:
            LimitExceeded, QueryError: as `cursor` and `BoundQuery.records`.
        """
        with self.cursor() as cursor:
            return query.records(cursor)


class LatestSnapshot:
    """The latest published snapshot of a lake.

    For a lake in an object store, `lake` is the folder of its `mirror`.
    """

    def __init__(
        self,
        lake: Path,
        memory_bytes: int | None = None,
        max_seconds: float | None = None,
        mirror: SnapshotMirror | None = None,
    ) -> None:
        self.path = lake / SNAPSHOT_FILE
        self._mirror = mirror
        self.memory_bytes = memory_bytes
        self.max_seconds = max_seconds
        self._lock = threading.Lock()
        self._stamp: FileStamp | None = None
        self._current: Snapshot | None = None

    def current(self) -> Snapshot:
        """The latest snapshot that could be opened. Checking for a new one takes microseconds.

        Raises:
            NoSnapshot: no snapshot has been published yet.
        """
        stamp = _stamp(self.path)
        if stamp is not None and stamp != self._stamp:
            with self._lock:
                if stamp != self._stamp:
                    self._open_latest(stamp)
        if self._current is None and self._mirror is not None:
            self._mirror.ensure_copy()
            self._mirror = None
            return self.current()
        if self._current is None:
            raise NoSnapshot(f"there is no {self.path}; `prunelake publish` writes it")
        return self._current

    def _open_latest(self, stamp: FileStamp) -> None:
        try:
            self._current = open_snapshot(self.path, self.memory_bytes, self.max_seconds)
        except NoSnapshot as error:
            if self._current is None:
                raise
            # An old snapshot serves readers better than no snapshot.
            log.warning("%s; still serving snapshot %s", error, self._current.id)
        self._stamp = stamp


def open_snapshot(
    path: Path, memory_bytes: int | None = None, max_seconds: float | None = None
) -> Snapshot:
    """Open a snapshot read-only.

    With `memory_bytes` it serves SQL of clients: on one thread, within this memory, without
    temporary files, and without the names of folders. DuckDB stops a query after `max_seconds`.

    Raises:
        NoSnapshot: no such file, no DuckDB file, or a file of another version of PruneLake.
    """
    # The file is attached to a new database: DuckDB would reuse a file that this process has open
    # under the same path, and that file may be older.
    config: dict[str, str | bool | int | float | list[str]] = {
        "python_enable_replacements": "false",
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
    }
    if memory_bytes is not None:
        config |= {"threads": "1", "memory_limit": f"{memory_bytes}B", "temp_directory": ""}
    connection = duckdb.connect(config=config)
    try:
        connection.execute("set TimeZone = 'UTC'")
        if memory_bytes is None:
            attach(connection, path, "prunelake")
        else:
            from .snapshot_file import SNAPSHOT_URL, SnapshotFileSystem

            connection.register_filesystem(SnapshotFileSystem(path))
            connection.execute(f"attach '{SNAPSHOT_URL}' as prunelake (read_only)")
            # Its default names the home folder.
            connection.execute("set secret_directory = ''")
        connection.execute("set enable_external_access = false")
        if memory_bytes is not None:
            # Without external access DuckDB still opens attached files, also for COPY ... TO.
            connection.execute("set disabled_filesystems = 'LocalFileSystem'")
        if max_seconds is not None:
            milliseconds = math.ceil(max_seconds * 1000)
            connection.execute(f"set global max_execution_time = {milliseconds}")
        connection.execute("set lock_configuration = true")
        with open_cursor(connection) as cursor:
            row = cursor.execute(
                "select snapshot_id, created_at, run_count, views_hash from snapshot"
            ).fetchone()
    except (duckdb.Error, OSError) as error:
        connection.close()
        first_line = str(error).partition("\n")[0]
        raise NoSnapshot(
            f"{path} cannot be read ({first_line}); `prunelake publish` writes it again"
        ) from error
    if row is None or row[3] != views_hash():
        connection.close()
        raise NoSnapshot(
            f"{path} was published by another version; `prunelake publish` writes it again"
        )
    return Snapshot(row[0], row[1], row[2], connection, max_seconds)


def time_limit_exceeded(max_seconds: float) -> LimitExceeded:
    """The error of a query beyond its time limit."""
    return LimitExceeded(
        f"the query takes longer than {max_seconds:g} s; ask for one run (run_id), or for a stored "
        "view: metrics, deltas, correlations, verdicts"
    )


@contextmanager
def open_cursor(connection: Connection) -> Iterator[Connection]:
    """A cursor on a snapshot's connection that finds the views by their plain names."""
    with connection.cursor() as cursor:
        cursor.execute("use prunelake")
        yield cursor


def _stamp(path: Path) -> FileStamp | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
