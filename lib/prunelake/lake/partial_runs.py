"""What an unfinished run has computed so far, a shard of its examples at a time.

`<lake>/.shards/<run_id>/<table>/<shard>.parquet`, the shard's file in `shards` written last: it
lists the others, and a shard is finished when it is there. The removal order is kept in the same
way, so that all shards of a run remove the same layers, wherever each of them was computed. No
view sees any of this. Once the run is in the lake, its folder goes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from prunelake.errors import CorruptFile, LakeError, one_line
from prunelake.lake import parquet
from prunelake.lake.locks import locked
from prunelake.lake.objects import ObjectPath
from prunelake.lake.storage import Location, delete_folder
from prunelake.schema.run_tables import RUN_TABLES
from prunelake.schema.table import Table

ORDER_SHARD = "order"
"""What the removal order is called among the shards."""
SHARDS = Table(
    "shards",
    "run x shard",
    ("run_id", "shard"),
    {
        "run_id": pl.String(),
        "shard": pl.String(),
        "forward_tokens": pl.Float64(),
        "duration_s": pl.Float64(),
        "device": pl.String(),
        "files": pl.List(
            pl.Struct({"table": pl.String(), "rows": pl.Int64(), "sha256": pl.String()})
        ),
    },
)


@dataclass(frozen=True)
class ComputeCost:
    """What computing a shard took: tokens through whole models, seconds, and where."""

    forward_tokens: float
    duration_s: float
    device: str


@dataclass(frozen=True)
class PartialRun:
    """The finished shards of one run that is not in the lake yet."""

    lake: Location
    run_id: str

    @property
    def folder(self) -> Location:
        """Where they lie."""
        return self.lake / ".shards" / self.run_id

    @contextmanager
    def claim(self, waiting: Callable[[], None]) -> Iterator[None]:
        """Be the only one who computes this run, until the end of the block or of the process.

        Where another one does, `waiting` is called first; what it finished is there afterwards.

        Raises:
            LakeError: a folder that cannot be written.
        """
        with ExitStack() as stack:
            with _write_errors(f"the shards of run {self.run_id}", self.lake):
                stack.enter_context(locked(self._lock.parent, self._lock.name, waiting=waiting))
            try:
                yield
            finally:
                # Still held, so that who waits for it takes the next one.
                if isinstance(self._lock, Path) and not self.folder.is_dir():
                    self._lock.unlink(missing_ok=True)

    def shard_cost(self, name: str) -> ComputeCost | None:
        """What a shard took; None while it is not finished.

        Raises:
            CorruptFile: a file of it is not the one that was written.
        """
        path = self._file(SHARDS, name)
        if not path.is_file():
            return None
        try:
            row = self._head(name)
        except CorruptFile as error:
            raise CorruptFile(f"{path} is not the file that was written") from error
        for entry in row["files"]:
            path = self._listed(entry, name)
            if not path.is_file() or parquet.sha256(path) != entry["sha256"]:
                raise CorruptFile(f"{path} is not the file that was written")
        return ComputeCost(row["forward_tokens"], row["duration_s"], row["device"])

    def write_shard(self, name: str, frames: Mapping[str, pl.DataFrame], cost: ComputeCost) -> None:
        """Keep a finished shard, all or nothing. Tables without rows have no file.

        Raises:
            LakeError: a folder that cannot be written.
        """
        with _write_errors(f"shard {name} of run {self.run_id}", self.lake):
            files = [
                {
                    "table": table,
                    "rows": frame.height,
                    "sha256": parquet.write_data(
                        self._file(RUN_TABLES[table], name), RUN_TABLES[table], frame
                    ),
                }
                for table, frame in frames.items()
                if not frame.is_empty()
            ]
            row: dict[str, Any] = {"run_id": self.run_id, "shard": name, "files": files}
            row |= {"forward_tokens": cost.forward_tokens, "duration_s": cost.duration_s}
            row |= {"device": cost.device}
            parquet.write(self._file(SHARDS, name), SHARDS, SHARDS.frame([row]))

    def read_table(self, table: Table, names: Iterable[str]) -> pl.DataFrame:
        """The rows of one table over finished shards, in this order and level by level.

        Raises:
            CorruptFile: a file that does not open or has another schema.
        """
        frames = [
            parquet.read(self._listed(entry, name), table)
            for name in names
            for entry in self._head(name)["files"]
            if entry["table"] == table.name
        ]
        found = pl.concat([table.frame([]), *frames])
        return found.sort("level", maintain_order=True) if "level" in found.columns else found

    def delete(self) -> None:
        """Remove what is kept of a run that the lake has; what stays does no harm."""
        delete_folder(self.folder, ignore_errors=True)

    def exists(self) -> bool:
        """Whether somebody computes the run, or has left something of it."""
        if isinstance(self.lake, ObjectPath):  # where who leaves something takes his lock along
            return self._lock.exists() or self.folder.is_dir()
        return self._lock.exists()

    @property
    def _lock(self) -> Location:
        # Beside the folder, which goes while the lock is held.
        return self.folder.with_name(f"{self.run_id}.lock")

    def _head(self, name: str) -> dict[str, Any]:
        return parquet.read(self._file(SHARDS, name), SHARDS).row(0, named=True)

    def _listed(self, entry: Mapping[str, Any], name: str) -> Location:
        return parquet.data_path(self._file(RUN_TABLES[entry["table"]], name), entry["sha256"])

    def _file(self, table: Table, name: str) -> Location:
        return self.folder / table.name / f"{name}.parquet"


@contextmanager
def _write_errors(what: str, lake: Location) -> Iterator[None]:
    try:
        yield
    except (OSError, pl.exceptions.PolarsError) as error:
        raise LakeError(
            f"{what} could not be written to {lake}: {one_line(error)}; make room or fix the "
            "permissions and sweep again: finished shards are kept"
        ) from error
