"""Write data files and the manifests that list them."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

import polars as pl

from prunelake.errors import CorruptFile
from prunelake.lake.files import checksums, parquet
from prunelake.lake.files.paths import data_file, owner_id, table_file
from prunelake.lake.storage import leases
from prunelake.lake.storage.location import Location, prefetch
from prunelake.lake.storage.objects import ObjectPath
from prunelake.schema.table import Table


@dataclass(frozen=True)
class ListedFile:
    """A data file as its manifest lists it: its table, number of rows, and SHA-256 (hex)."""

    table: str
    rows: int
    sha256: str

    def path(self, manifest: Location) -> Location:
        """The data file, which lies beside the folder of its manifest."""
        folder, owner = manifest.parent.parent, owner_id(manifest)
        return data_file(table_file(folder, self.table, owner), self.sha256)

    def verified_path(self, manifest: Location) -> Location:
        """The data file, after comparing its bytes with the hash.

        Raises:
            CorruptFile: the file is gone or has changed.
        """
        path = prefetch(self.path(manifest))
        if not path.is_file() or checksums.sha256(path) != self.sha256:
            raise CorruptFile(f"{path} is missing or has changed")
        return path


def parse_listed_files(entries: Iterable[Mapping[str, Any]]) -> list[ListedFile]:
    """The values of a column `files`, or of the list in the metadata of a segment.

    Raises:
        KeyError, TypeError: entries that do not list files.
    """
    return [ListedFile(entry["table"], entry["rows"], entry["sha256"]) for entry in entries]


def listed_files_as_rows(files: Iterable[ListedFile]) -> list[dict[str, Any]]:
    """The values of the column `files` of a manifest table."""
    return [asdict(file) for file in files]


def write_data_file(folder: Location, table: Table, owner: str, frame: pl.DataFrame) -> ListedFile:
    """Write the rows of a run, segment, shard or profile in one table."""
    path = table_file(folder, table.name, owner)
    if isinstance(path, ObjectPath):
        content = parquet.encode(table, frame)
        digest = sha256(content).hexdigest()
        data_file(path, digest).put(content)
    else:
        digest = parquet.write(path, table, frame)
    return ListedFile(table.name, frame.height, digest)


def create_manifest(
    path: Location, table: Table, frame: pl.DataFrame, metadata: Mapping[str, str] | None = None
) -> bool:
    """Write a manifest. Returns False and changes nothing if a store already has it.

    Raises:
        LakeError: a lease was lost, so the listed files may have been removed.
    """
    if isinstance(path, ObjectPath):
        leases.require_leases(path)
        return path.create(parquet.encode(table, frame, metadata)) is not None
    parquet.write(path, table, frame, metadata)
    return True


def replace_manifest(path: Location, table: Table, frame: pl.DataFrame, etag: str | None) -> bool:
    """Replace the manifest with this tag in a store; False if it has changed.

    Without a tag the manifest is created. Local files have no tags.

    Raises:
        LakeError: as `create_manifest`.
    """
    if isinstance(path, ObjectPath) and etag is not None:
        leases.require_leases(path)
        return path.replace(parquet.encode(table, frame), etag) is not None
    return create_manifest(path, table, frame)
