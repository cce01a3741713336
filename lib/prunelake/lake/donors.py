"""Donors: the runs of a lake, complete or not, from which another run may copy rows."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial

import polars as pl

from prunelake.errors import CorruptFile, LakeError
from prunelake.identity import RunIdentity, run_kind
from prunelake.lake.files import parquet
from prunelake.lake.files.manifests import StoredManifest
from prunelake.lake.files.paths import SHARDS_FOLDER
from prunelake.lake.partial_runs import ORDER_SHARD, PartialRun
from prunelake.lake.read import complete_runs, read_run_columns
from prunelake.lake.storage.location import Location, list_folder
from prunelake.schema.run_tables import LAYERS, RUN_TABLES


@dataclass(frozen=True)
class Donor:
    """A run from which other runs may copy rows.

    `read` returns its rows of a table by name. It compares the hash of each file, and raises
    CorruptFile if a file has changed since it was written.
    """

    run_id: str
    identity: RunIdentity
    removal_order: tuple[int, ...]
    read: Callable[[str], pl.DataFrame]


def donors(lake: Location, revision: str) -> Iterator[Donor]:
    """The sweeps of these weights: unfinished runs, then complete runs, the newest last.

    This order finds a run that is completed meanwhile. Without a lake there are none.

    Raises:
        WrongFormat, CorruptFile: as `read.read_run_columns`.
    """
    for folder in list_folder(lake / SHARDS_FOLDER):
        donor = None
        with suppress(LakeError, OSError):  # damaged, of another format, or completed meanwhile
            donor = _unfinished_donor(PartialRun(lake, folder.name))
        if donor is not None and donor.identity.revision == revision:
            yield donor
    yield from _complete_donors(lake, revision)


def _unfinished_donor(partial_run: PartialRun) -> Donor | None:
    """A run whose removal order is stored; its rows are the rows of the finished shards."""
    identity = partial_run.identity()
    if identity is None:
        return None

    shards = cache(partial_run.finished_shards)

    def read(name: str) -> pl.DataFrame:
        try:
            return partial_run.read_table(RUN_TABLES[name], shards())
        except CorruptFile:
            if partial_run.finished_shards():
                raise
            return RUN_TABLES[name].frame([])  # completed meanwhile

    order = partial_run.read_table(LAYERS, [ORDER_SHARD]).sort("rank")["layer"]
    return Donor(partial_run.run_id, RunIdentity.model_validate_json(identity), tuple(order), read)


def _complete_donors(lake: Location, revision: str) -> Iterator[Donor]:
    columns = ["run_id", "revision", "removal_order", "identity", "created_at"]
    runs = (
        read_run_columns(lake, columns)
        .unique("run_id")
        .filter(pl.col("revision") == revision)
        .sort("created_at")
    )
    manifest_of = {
        run_id: manifest
        for manifest in complete_runs(lake, runs["run_id"])
        for run_id in manifest.run_ids
    }
    readers = {manifest.path: _reader(manifest) for manifest in manifest_of.values()}
    for run_id, _, order, identity, _ in runs.iter_rows():
        if run_id in manifest_of and run_kind(identity) == "sweep":
            read = partial(_rows_of_run, readers[manifest_of[run_id].path], run_id)
            yield Donor(run_id, RunIdentity.model_validate_json(identity), tuple(order), read)


def _reader(manifest: StoredManifest) -> Callable[[str], pl.DataFrame]:
    """A function that reads a table of one manifest, once."""

    @cache
    def read(name: str) -> pl.DataFrame:
        table, path = RUN_TABLES[name], manifest.file(name)
        return table.frame([]) if path is None else parquet.read(path, table)

    return read


def _rows_of_run(read: Callable[[str], pl.DataFrame], run_id: str, table: str) -> pl.DataFrame:
    return read(table).filter(run_id=run_id)
