"""Garbage collection: delete the files that no reader needs any more.

A file is deleted only after a grace period, so that readers at work keep their files. Before the
files of an uncommitted writer are deleted, a void manifest takes the place of its commit: if that
writer is not dead, its commit fails, and it writes its files again.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta

from prunelake.errors import LakeError, one_line
from prunelake.lake.files.entries import commit_manifest, retire_manifest
from prunelake.lake.files.manifests import (
    VOID,
    StoredManifest,
    decode,
    entry_name,
    listed_files,
    read_group,
)
from prunelake.lake.files.paths import (
    ManifestName,
    is_segment,
    parse_data_file,
    parse_manifest,
)
from prunelake.lake.maintenance.lost_runs import find_lost_runs
from prunelake.lake.read import LakeContent, read_content
from prunelake.lake.storage.location import (
    TEMPORARY_SUFFIX,
    Location,
    delete,
    list_folder,
    storage_clock,
    written_at,
)
from prunelake.lake.storage.locks import MAINTENANCE_LOCK, locked
from prunelake.schema.table import TableGroup
from prunelake.schema.tables import TABLE_GROUPS

DEFAULT_GRACE = timedelta(hours=24)
"""How long a file that is no longer needed is kept: longer than any query, and any commit."""

IsOld = Callable[[Location], bool]
"""Whether a file was written before the grace period."""


def collect_garbage(lake: Location, grace: timedelta = DEFAULT_GRACE) -> int:
    """Delete what no reader needs; return the number of deleted files.

    Damaged files, and complete files of a lost run, are kept for `prunelake doctor`. The clock of
    the storage counts, not the clock of this machine.

    Raises:
        LakeError: no such folder, or a folder that cannot be written.
        WrongFormat: a run of another format version.
    """
    content = read_content(lake)
    try:
        with locked(lake, MAINTENANCE_LOCK):
            limit = storage_clock(lake) - grace.total_seconds()

            def is_old(path: Location) -> bool:
                try:
                    return written_at(path) <= limit
                except FileNotFoundError:
                    return False

            count = sum(_collect_manifests(lake, group, content, is_old) for group in TABLE_GROUPS)
            return count + sum(_collect_files(lake, group, is_old) for group in TABLE_GROUPS)
    except OSError as error:
        raise LakeError(
            f"{lake} could not be cleaned up: {one_line(error)}; fix the permissions and try again"
        ) from error


def unlisted_files(
    lake: Location, group: TableGroup, with_retired: bool = True
) -> Iterator[Location]:
    """The files of a group that no manifest lists, and temporary files.

    Damaged files are none of them: a damaged manifest keeps all files of its name. The files of
    retired manifests are unlisted, unless `with_retired` is false.
    """
    manifests = read_group(lake, group)
    listed = {path for manifest in manifests.stored for _, path, _ in listed_files(manifest)}
    kept = {damage.manifest for damage in manifests.damaged}
    if not with_retired:
        kept |= manifests.retired
    for table in group:
        for path in list_folder(lake / table):
            data = parse_data_file(path)
            if data is None:
                # Names with "_" are the logs of table formats.
                if parse_manifest(path) is None and not path.name.startswith("_"):
                    yield path
            elif path not in listed and data[0] not in kept:
                yield path


def _collect_manifests(
    lake: Location, group: TableGroup, content: LakeContent, is_old: IsOld
) -> int:
    """Delete the manifests from which no reader takes rows, and their files."""
    folder = lake / group.owner_table.name
    serving = {
        run_id: manifest.path for manifest in content.group(group) for run_id in manifest.run_ids
    }
    count = 0
    for manifest in content.group(group):
        if not manifest.run_ids and all(
            is_old(path) for path in _replacements(folder, group, manifest, serving)
        ):
            if is_segment(manifest.path):
                # A compaction that wakes up later must not commit the deleted files again.
                retire_manifest(lake, group, manifest.name)
            delete(manifest.path)
            files = [path for _, path, _ in listed_files(manifest)]
            for path in files:
                delete(path)
            count += 1 + len(files)
    for path in list_folder(folder, "*.json"):
        name = parse_manifest(path)
        if name is not None and is_old(name.retired_mark(folder)):
            delete(path)
            count += 1
    return count


def _replacements(
    folder: Location,
    group: TableGroup,
    manifest: StoredManifest,
    serving: Mapping[str, Location],
) -> Iterator[Location]:
    """The files because of which readers do not take rows from a manifest."""
    version = manifest.content.analysis_version
    for owner_id, owner in manifest.content.owners.items():
        entry = entry_name(group, owner_id, owner.commit, version)
        mark = ManifestName(entry, owner.generation).retired_mark(folder)
        if owner_id in serving:
            yield serving[owner_id]
        else:
            # An analysis of another version, or of a run that is gone, has no mark.
            yield mark if mark.is_file() else manifest.path


def _collect_files(lake: Location, group: TableGroup, is_old: IsOld) -> int:
    """Delete the data files that no manifest lists, and temporary files, after the grace period."""
    lost = {run.name for run in find_lost_runs(lake)}
    count = 0
    for path in unlisted_files(lake, group):
        data = parse_data_file(path)
        is_lost = data is not None and data[0] in lost
        if is_old(path) and not is_lost and _is_deletable(lake, group, path, is_old):
            delete(path)
            count += 1
    return count


def _is_deletable(lake: Location, group: TableGroup, path: Location, is_old: IsOld) -> bool:
    """Whether no manifest lists a data file, now and in future."""
    data = parse_data_file(path)
    if data is None:
        return path.name.endswith(TEMPORARY_SUFFIX)
    name, digest = data
    folder = lake / group.owner_table.name
    mark = name.retired_mark(folder)
    if mark.is_file():
        return is_old(mark)  # readers that were at work before may need the file
    if commit_manifest(lake, group, name, VOID):
        return True
    # The manifest is there already: void, of a faster writer, or of the writer of this file.
    listed = decode(name.manifest(folder)).files.get(path.parent.name)
    return listed is None or not listed.sha256.startswith(digest)
