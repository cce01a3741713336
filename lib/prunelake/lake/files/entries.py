"""Commit entries: write their data files, then create their manifest; and retire them.

An entry is a run, the analysis of a run, a profile, or a segment of many runs.
"""

from collections.abc import Iterable, Mapping

import polars as pl

from prunelake.identity import content_hash
from prunelake.lake.files import hashed_json, parquet
from prunelake.lake.files.listed_file import ListedFile
from prunelake.lake.files.manifests import (
    VOID,
    Manifest,
    Owner,
    StoredManifest,
    decode,
    own_name,
    read_group,
)
from prunelake.lake.files.paths import SEGMENT_PREFIX, ManifestName
from prunelake.lake.storage.location import Location, create
from prunelake.schema.table import Table, TableGroup


def next_name(lake: Location, group: TableGroup, entry: str) -> ManifestName | None:
    """The name under which an entry can be committed; None if it is committed already.

    Raises:
        CorruptFile, WrongFormat: as `decode`.
    """
    folder = lake / group.owner_table.name
    generation = 1
    while True:
        name = ManifestName(entry, generation)
        path = name.manifest(folder)
        if not name.retired_mark(folder).is_file():
            if not path.is_file():
                return name
            if decode(path) != VOID:
                return None
        generation += 1


def commit_manifest(
    lake: Location, group: TableGroup, name: ManifestName, content: Manifest
) -> bool:
    """Create a manifest. Returns False and changes nothing if its name is taken."""
    return create(name.manifest(lake / group.owner_table.name), hashed_json.encode(content))


def retire_manifest(lake: Location, group: TableGroup, name: ManifestName) -> None:
    """Hide a manifest from readers, for good."""
    create(name.retired_mark(lake / group.owner_table.name), b"")


def retire_owner(
    lake: Location, group: TableGroup, manifest: StoredManifest, owner_id: str
) -> None:
    """Hide a run (or profile) of a manifest from readers, in all manifests."""
    retire_manifest(lake, group, own_name(group, manifest.content, owner_id))


def retire_owners(lake: Location, group: TableGroup, owner_ids: set[str]) -> None:
    """Hide these runs (or profiles) from readers, in all manifests."""
    for manifest in read_group(lake, group).select(owner_ids):
        for owner_id in manifest.run_ids:
            retire_owner(lake, group, manifest, owner_id)


def write_files(
    lake: Location, name: ManifestName, frames: Iterable[tuple[Table, pl.DataFrame]]
) -> dict[str, ListedFile]:
    """Write the data files of a manifest, one table at a time; return them by table.

    An optional table without rows has no file.
    """
    files = {}
    for table, frame in frames:
        if not (table.is_optional and frame.is_empty()):
            files[table.name] = parquet.write(lake, table, name, frame)
    return files


def segment_name(owners: Mapping[str, Owner], analysis_version: int | None) -> str:
    """The entry of a segment: the hash of its owners and of their version."""
    content = [owner.model_dump(mode="json") | {"id": each} for each, owner in owners.items()]
    return SEGMENT_PREFIX + content_hash([analysis_version, content])[:16]
