"""The manifests of a lake: each commits the files of one run, or of a segment of many runs."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from prunelake.errors import CorruptFile
from prunelake.identity import content_hash
from prunelake.lake.files import parquet
from prunelake.lake.files.findings import repair_hint
from prunelake.lake.files.manifest_files import ListedFile, parse_listed_files
from prunelake.lake.files.paths import SEGMENT_PREFIX, is_segment, owner_id
from prunelake.lake.storage.location import Location, list_folder, prefetch_all
from prunelake.schema.analysis_tables import ANALYSIS_TABLES, ANALYSIS_VERSION
from prunelake.schema.table import Table, TableGroup

FILES_KEY = "prunelake.files"
"""The key of a segment's data files in the metadata of its manifest: a JSON list of the entries
that the column `files` holds for a single run."""


@dataclass(frozen=True)
class Manifest:
    """One manifest and the data files that it commits, by table.

    `all_run_ids` are the runs (or profiles) with rows in these files. Readers take `run_ids` from
    these files, and the other runs from other manifests.
    """

    path: Location
    files: Mapping[str, ListedFile]
    all_run_ids: frozenset[str]
    run_ids: frozenset[str]

    def file(self, table: str) -> Location | None:
        """The file with the rows of a table; None if there is none."""
        if table == self.path.parent.name:
            return self.path
        return self.files[table].path(self.path) if table in self.files else None


def manifests(
    lake: Location, group: TableGroup, run_ids: Collection[str] | None = None
) -> list[Manifest]:
    """The manifests of a group of tables, each with the runs to read from it.

    With `run_ids` only these runs are read, and the files of other single runs are not opened.
    Analyses of another version are never read.

    Raises:
        WrongFormat: a manifest of another format version.
        CorruptFile: a manifest that cannot be opened or has another schema.
    """
    wanted = None if run_ids is None else frozenset(run_ids)
    while True:
        single, segments = manifest_files(lake, group)
        if wanted is not None:
            single = [path for path in single if owner_id(path) in wanted]
        try:
            return _read_manifests(group, single, segments, wanted)
        except CorruptFile:
            # A manifest that has disappeared was merged into a segment, or replaced.
            if all(path.is_file() for path in (*single, *segments)):
                raise


def readable_run_ids(manifests: Iterable[Manifest]) -> list[str]:
    """The runs that readers take from these manifests, sorted."""
    return sorted(frozenset[str]().union(*(manifest.run_ids for manifest in manifests)))


def manifest_files(lake: Location, group: TableGroup) -> tuple[list[Location], list[Location]]:
    """The manifests of single runs (or profiles) and the manifests of segments, both sorted."""
    # Single runs are listed first: then a run that is compacted meanwhile is in the second list.
    single = [path for path in _group_manifest_files(lake, group) if not is_segment(path)]
    segments = [path for path in _group_manifest_files(lake, group) if is_segment(path)]
    return single, segments


def read_manifest_columns(
    paths: Sequence[Location], table: Table, columns: Sequence[str]
) -> list[tuple[dict[str, str], pl.DataFrame]]:
    """The metadata of each manifest, and some of its columns.

    Raises:
        WrongFormat, CorruptFile: as `manifests`.
    """
    fetched = prefetch_all(paths)
    metadata = [parquet.read_metadata(path) for path in fetched]
    return list(zip(metadata, parquet.read_columns(fetched, table, columns), strict=True))


def segment_name(rows: pl.DataFrame) -> str:
    """The name of a segment: the hash of the rows of its manifest, so that any change shows."""
    times = pl.selectors.datetime().dt.epoch("us")
    return SEGMENT_PREFIX + content_hash(rows.with_columns(times).to_dicts())[:16]


def segment_files(metadata: Mapping[str, str]) -> list[ListedFile] | None:
    """The data files that the metadata of a segment's manifest lists; None if it lists none."""
    try:
        return parse_listed_files(json.loads(metadata.get(FILES_KEY, "")))
    except (ValueError, TypeError, KeyError):
        return None


def _group_manifest_files(lake: Location, group: TableGroup) -> list[Location]:
    paths = list_folder(lake / group.manifest_table.name, "*.parquet")
    return [path for path in paths if not path.name.startswith(".")]


def _read_manifests(
    group: TableGroup,
    single: list[Location],
    segments: list[Location],
    wanted: frozenset[str] | None,
) -> list[Manifest]:
    table = group.manifest_table
    columns = [c for c in (group.owner_column, "files", "analysis_version") if c in table.schema]
    result: list[Manifest] = []
    taken: set[str] = set()
    # Readers prefer a run's own files to a segment.
    for paths in (single, segments):
        contents = read_manifest_columns(paths, table, columns)
        for path, (metadata, rows) in zip(paths, contents, strict=True):
            files = _listed_files(path, table, metadata, rows)
            if not is_segment(path):
                rows = rows.with_columns(pl.lit(owner_id(path)).alias(group.owner_column))
            current = rows
            if group is ANALYSIS_TABLES:
                current = rows.filter(pl.col("analysis_version") == ANALYSIS_VERSION)
            readable = frozenset(current[group.owner_column]) - taken
            if wanted is not None:
                readable &= wanted
            taken |= readable
            all_ids = frozenset(rows[group.owner_column])
            result.append(Manifest(path, {f.table: f for f in files}, all_ids, readable))
    return result


def _listed_files(
    path: Location, table: Table, metadata: Mapping[str, str], rows: pl.DataFrame
) -> list[ListedFile]:
    files: list[ListedFile] | None = None
    if is_segment(path):
        files = segment_files(metadata)
    elif rows.height == 1 and rows["files"].item() is not None:
        files = parse_listed_files(rows["files"].item())
    if files is None or rows.is_empty():
        kind = "segment" if is_segment(path) else table.owner_kind
        raise CorruptFile(
            f"{path} is not the {table.name} file of a {kind}: it has {rows.height} rows and lists "
            f"{'no' if files is None else len(files)} files; {repair_hint(path)}"
        )
    return files
