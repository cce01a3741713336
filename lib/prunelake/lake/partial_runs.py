"""The finished shards of a run that is not complete yet.

A shard is a part of the examples of a run. Its rows lie in data files in `<lake>/.shards/<run_id>`.
Its manifest `<shard>.json` is written last and lists these files: the shard is finished as soon as
its manifest exists. The removal order is stored in the same way, so that all shards of a run remove
the same layers on every machine. No view shows unfinished runs. The folder of a run is deleted once
the run is in the lake.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

import polars as pl
from pydantic import ValidationError

from prunelake.errors import CorruptFile, one_line
from prunelake.frozen_value import FrozenValue
from prunelake.lake.files import hashed_json, parquet
from prunelake.lake.files.entries import write_files
from prunelake.lake.files.listed_file import ListedFile
from prunelake.lake.files.paths import LOCK_SUFFIX, SHARDS_FOLDER, ManifestName, data_file
from prunelake.lake.files.verified import content_problem
from prunelake.lake.files.write_errors import write_errors
from prunelake.lake.storage.location import Location, delete_folder, list_folder, put
from prunelake.lake.storage.locks import locked
from prunelake.schema.run_tables import RUN_TABLES
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


class ShardManifest(FrozenValue):
    """The content of the manifest of a shard; that of the removal order has the run's identity."""

    cost: ComputeCost
    identity: str | None
    files: Mapping[str, ListedFile]


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
            with self._write_errors(f"the shards of run {self.run_id}"):
                # The lock lies beside the shards: their folder is deleted while the lock is held.
                lock_file = f"{self.run_id}{LOCK_SUFFIX}"
                stack.enter_context(locked(self.folder.parent, lock_file, on_wait=on_wait))
            yield

    def shard_cost(self, name: str) -> ComputeCost | None:
        """The cost of a shard; None while the shard is not finished.

        Raises:
            CorruptFile: a damaged file of the shard.
        """
        shard = self._shard(name)
        if shard is None:
            return None
        for table, file in shard.files.items():
            path = self._data_file(name, table, file)
            if content_problem(path, file.sha256):
                raise CorruptFile(f"{path} is missing or has changed")
        return shard.cost

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
        with self._write_errors(f"shard {name} of run {self.run_id}"):
            files = write_files(
                self.folder,
                ManifestName(name, 1),
                [
                    (RUN_TABLES[table], rows)
                    for table, rows in frames.items()
                    if not rows.is_empty()
                ],
            )
            shard = ShardManifest(cost=cost, identity=identity, files=files)
            put(self._manifest(name), hashed_json.encode(shard))

    def identity(self) -> str | None:
        """The JSON of the run's identity; None while the removal order is not stored.

        Raises:
            CorruptFile: a damaged manifest of the removal order.
        """
        shard = self._shard(ORDER_SHARD)
        return None if shard is None else shard.identity

    def finished_shards(self) -> list[str]:
        """The names of all shards with a manifest, including the removal order."""
        paths = list_folder(self.folder, "*.json")
        return [path.stem for path in paths if not path.name.startswith(".")]

    def read_table(self, table: Table, names: Iterable[str]) -> pl.DataFrame:
        """The rows of one table in finished shards: by level, then in the order of the names.

        Raises:
            CorruptFile: as `parquet.read`.
        """
        frames = []
        for name in names:
            shard = self._shard(name)
            if shard is None:
                raise CorruptFile(f"{self._manifest(name)} is missing")
            if file := shard.files.get(table.name):
                frames.append(parquet.read(self._data_file(name, table.name, file), table))
        rows = pl.concat([table.frame([]), *frames])
        return rows.sort("level", maintain_order=True) if "level" in rows.columns else rows

    def delete(self) -> None:
        """Delete the shards of a run that is in the lake; a remaining file does no harm."""
        delete_folder(self.folder, ignore_errors=True)

    def exists(self) -> bool:
        """Whether a process has computed a part of the run."""
        return self.folder.is_dir()

    def _write_errors(self, content: str) -> AbstractContextManager[None]:
        failure = f"{content} could not be written to {self.lake}"
        return write_errors(failure, "sweep again: finished shards are kept")

    def _manifest(self, name: str) -> Location:
        return self.folder / f"{name}.json"

    def _data_file(self, name: str, table: str, file: ListedFile) -> Location:
        return data_file(self.folder, table, ManifestName(name, 1), file.sha256)

    def _shard(self, name: str) -> ShardManifest | None:
        """The manifest of a shard; None while the shard is not finished."""
        path = self._manifest(name)
        try:
            return ShardManifest.model_validate(hashed_json.decode(path))
        except FileNotFoundError:
            return None
        except (CorruptFile, ValidationError) as error:
            raise CorruptFile(f"{path} is not as it was written ({one_line(error)})") from error
