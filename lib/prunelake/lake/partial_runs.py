"""The finished shards of a run that is not complete yet.

A shard is a part of the examples of a run. `<lake>/.shards/<run_id>/<table>/<shard>.parquet` holds
its rows. Its manifest in the table `shards` is written last and lists these files: the shard is
finished as soon as its manifest exists. The removal order is stored in the same way, so that all
shards of a run remove the same layers on every machine. No view shows unfinished runs. The folder
of a run is deleted once the run is in the lake.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from prunelake.errors import CorruptFile, LakeError, one_line
from prunelake.lake.files import parquet
from prunelake.lake.files.manifest_files import (
    ListedFile,
    listed_files_as_rows,
    parse_listed_files,
    write_data_file,
)
from prunelake.lake.files.paths import SHARDS_FOLDER, table_file
from prunelake.lake.storage.location import Location, delete_folder, list_folder
from prunelake.lake.storage.locks import locked
from prunelake.lake.storage.objects import ObjectPath
from prunelake.schema.run_tables import RUN_TABLES, SHARDS
from prunelake.schema.table import Table

ORDER_SHARD = "order"
"""The name of the removal order among the shards."""


@dataclass(frozen=True)
class CopiedCells:
    """The number of rows of a table that were copied from another run."""

    run_id: str
    table: str
    cells: int


@dataclass(frozen=True)
class ComputeCost:
    """The cost of a shard: tokens through whole models, seconds, and the device.

    `copied` counts the cells that cost nothing. `device` is empty if nothing was computed.
    """

    forward_tokens: float
    duration_s: float
    device: str
    copied: tuple[CopiedCells, ...] = ()


@dataclass(frozen=True)
class PartialRun:
    """The finished shards of one run that is not in the lake yet."""

    lake: Location
    run_id: str

    @property
    def folder(self) -> Location:
        """The folder of its shards."""
        return self.lake / SHARDS_FOLDER / self.run_id

    @contextmanager
    def claim(self, on_wait: Callable[[], None]) -> Iterator[None]:
        """Make this the only process that computes the run, until the block or the process ends.

        If another process computes the run, `on_wait` is called, and the block begins when that
        process has ended. Its finished shards then exist.

        Raises:
            LakeError: a folder that cannot be written.
        """
        with ExitStack() as stack:
            with _write_errors(f"the shards of run {self.run_id}", self.lake):
                lock = self._lock
                stack.enter_context(locked(lock.parent, lock.name, on_wait=on_wait))
            try:
                yield
            finally:
                # The lock file is removed while it is held, so that a waiting process creates a new
                # one.
                if isinstance(lock, Path) and not self.folder.is_dir():
                    lock.unlink(missing_ok=True)

    def shard_cost(self, name: str) -> ComputeCost | None:
        """The cost of a shard; None while the shard is not finished.

        Raises:
            CorruptFile: a damaged file of the shard.
        """
        path = self._manifest(name)
        if not path.is_file():
            return None
        try:
            is_damaged = parquet.manifest_problem(path) is not None
            row = self._row(name)
        except CorruptFile as error:
            raise _damaged_shard(path) from error
        if is_damaged:
            raise _damaged_shard(path)
        for file in parse_listed_files(row["files"]):
            file.verified_path(path)
        copied = tuple(CopiedCells(**cells) for cells in row["copied"])
        return ComputeCost(row["forward_tokens"], row["duration_s"], row["device"], copied)

    def write_shard(
        self,
        name: str,
        frames: Mapping[str, pl.DataFrame],
        cost: ComputeCost,
        identity: str | None = None,
    ) -> None:
        """Store a finished shard, completely or not at all. Tables without rows have no file.

        `identity` is the JSON of the run's identity; the shard of the removal order stores it.

        Raises:
            LakeError: a folder that cannot be written.
        """
        with _write_errors(f"shard {name} of run {self.run_id}", self.lake):
            files = [
                write_data_file(self.folder, RUN_TABLES[table], name, frame)
                for table, frame in frames.items()
                if not frame.is_empty()
            ]
            row = {
                "run_id": self.run_id,
                "shard": name,
                "forward_tokens": cost.forward_tokens,
                "duration_s": cost.duration_s,
                "device": cost.device,
                "copied": [asdict(cells) for cells in cost.copied],
                "identity": identity,
                "files": listed_files_as_rows(files),
            }
            parquet.write(self._manifest(name), SHARDS, SHARDS.frame([row]))

    def identity(self) -> str | None:
        """The JSON of the run's identity; None while the removal order is not stored.

        Raises:
            CorruptFile: as `shard_cost`.
        """
        if self.shard_cost(ORDER_SHARD) is None:
            return None
        identity: str = self._row(ORDER_SHARD)["identity"]
        return identity

    def finished_shards(self) -> list[str]:
        """The names of all shards with a manifest, including the removal order."""
        paths = list_folder(self.folder / SHARDS.name, "*.parquet")
        return [path.stem for path in paths if not path.name.startswith(".")]

    def read_table(self, table: Table, names: Iterable[str]) -> pl.DataFrame:
        """The rows of one table in finished shards: by level, then in the order of the names.

        Raises:
            CorruptFile: a file that cannot be opened or has another schema.
        """
        frames = [
            parquet.read(file.path(self._manifest(name)), table)
            for name in names
            for file in self._files(name)
            if file.table == table.name
        ]
        rows = pl.concat([table.frame([]), *frames])
        return rows.sort("level", maintain_order=True) if "level" in rows.columns else rows

    def delete(self) -> None:
        """Delete the shards of a run that is in the lake; a remaining file does no harm."""
        delete_folder(self.folder, ignore_errors=True)

    def exists(self) -> bool:
        """Whether a process computes the run, or has left shards behind."""
        # In a store, a process removes its lock when it ends, and its shards may remain.
        if isinstance(self.lake, ObjectPath):
            return self._lock.exists() or self.folder.is_dir()
        return self._lock.exists()

    @property
    def _lock(self) -> Location:
        # The lock lies beside the folder, because the folder is deleted while the lock is held.
        return self.folder.with_name(f"{self.run_id}.lock")

    def _manifest(self, name: str) -> Location:
        return table_file(self.folder, SHARDS.name, name)

    def _row(self, name: str) -> dict[str, Any]:
        return parquet.read(self._manifest(name), SHARDS).row(0, named=True)

    def _files(self, name: str) -> list[ListedFile]:
        return parse_listed_files(self._row(name)["files"])


def _damaged_shard(path: Location) -> CorruptFile:
    return CorruptFile(f"{path} is missing or has changed")


@contextmanager
def _write_errors(content: str, lake: Location) -> Iterator[None]:
    try:
        yield
    except (OSError, pl.exceptions.PolarsError) as error:
        raise LakeError(
            f"{content} could not be written to {lake}: {one_line(error)}; make room or fix the "
            "permissions and sweep again: finished shards are kept"
        ) from error
