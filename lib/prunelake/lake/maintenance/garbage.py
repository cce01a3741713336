"""Garbage collection: delete the files that no reader needs any more.

A file is deleted only after a grace period, so that readers at work keep their files. Before the
files of an uncommitted writer are deleted, a void manifest takes the place of its manifest. If that
writer is not dead, its commit fails, and it writes its files again.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import timedelta
from functools import partial

from prunelake.lake.files.entries import commit_manifest, retire_manifest
from prunelake.lake.files.manifests import (
    VOID,
    StoredManifest,
    decode,
    listed_files,
    own_name,
    read_group,
)
from prunelake.lake.files.paths import (
    RETIRED_SUFFIX,
    ManifestName,
    is_segment,
    parse_data_file,
    parse_manifest,
)
from prunelake.lake.files.write_errors import write_errors
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
from prunelake.schema.analysis_tables import ANALYSIS_TABLES
from prunelake.schema.run_tables import RUN_TABLES
from prunelake.schema.table import TableGroup
from prunelake.schema.tables import TABLE_GROUPS

DEFAULT_GRACE = timedelta(hours=24)
"""How long a file that is no longer needed is kept: longer than any query, and any commit."""

FENCE_GRACE = timedelta(days=30)
"""How long a mark or a void manifest is kept: longer than any process sleeps."""

IsOld = Callable[[Location], bool]
"""Whether a file was written before the grace period."""


def collect_garbage(lake: Location, grace: timedelta = DEFAULT_GRACE) -> int:
    """Delete the files that no reader needs; return the number of deleted files.

    Damaged files, and complete files of a lost run, are kept for `prunelake doctor`. The clock of
    the storage counts, not the clock of this machine.

    Raises:
        LakeError: no such folder, or a folder that cannot be written.
        WrongFormat: a run of another format version.
    """
    content = read_content(lake)
    failure = f"{lake} could not be cleaned up"
    with write_errors(failure, "try again"), locked(lake, MAINTENANCE_LOCK):
        limit = storage_clock(lake) - grace.total_seconds()

        def is_old(path: Location, kept: timedelta = timedelta(0)) -> bool:
            try:
                return written_at(path) <= limit - kept.total_seconds()
            except FileNotFoundError:
                return False

        lost = {run.name for run in find_lost_runs(lake)}
        # A restored run has its analysis again, and marks hide its retired neighbours.
        may_be_restored = bool(lost) or any(d.group is RUN_TABLES for d in content.damaged)
        count = 0
        for group in TABLE_GROUPS:
            if not (may_be_restored and group is ANALYSIS_TABLES):
                count += _collect_manifests(lake, group, content, is_old)
            count += _collect_files(lake, group, lost, is_old)
            if not may_be_restored:
                count += _collect_fences(lake, group, partial(is_old, kept=FENCE_GRACE))
        return count


def unlisted_files(
    lake: Location, group: TableGroup, with_retired: bool = True
) -> Iterator[Location]:
    """The files of a group that no manifest lists, and temporary files.

    A damaged manifest keeps all files of its name: they do not count as unlisted. The files of
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
    """The files that make readers ignore the rows of a manifest: other manifests, or marks."""
    for owner_id in manifest.content.owners:
        mark = own_name(group, manifest.content, owner_id).retired_mark(folder)
        if owner_id in serving:
            yield serving[owner_id]
        else:
            # An analysis of another version, or of a run that is gone, has no mark.
            yield mark if mark.is_file() else manifest.path


def _collect_fences(lake: Location, group: TableGroup, is_old: IsOld) -> int:
    """Delete old marks and void manifests, if no other file of the lake has their name.

    Such a file hides nothing. It only stops a writer or a compaction that has slept since before
    the file was created. If that process wakes up even later, its manifest lists deleted files:
    readers hide it, so it changes no number.
    """
    folder = lake / group.owner_table.name
    manifests = read_group(lake, group)
    paths = list_folder(folder)
    names = {path: name for path in paths if (name := parse_manifest(path)) is not None}
    files = {
        data[0] for each in group for p in list_folder(lake / each) if (data := parse_data_file(p))
    }
    used = {m.name for m in manifests.stored} | {d.manifest for d in manifests.damaged} | files
    hidden = {  # a mark may hide these
        own_name(group, m.content, owner_id) for m in manifests.stored for owner_id in m.all_run_ids
    }
    counts = Counter(names.values())  # a manifest and its mark need each other
    outdated = [
        path
        for path, name in names.items()
        if counts[name] == 1 and name not in used and is_old(path)
        if path.suffix != RETIRED_SUFFIX or name not in hidden
    ]
    for path in outdated:
        delete(path)
    return len(outdated)


def _collect_files(
    lake: Location, group: TableGroup, lost: Collection[ManifestName], is_old: IsOld
) -> int:
    """Delete the data files that no manifest lists, and temporary files, after the grace period."""
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
    # The manifest exists already: it is void, or a faster writer or the writer of this file made
    # it.
    listed = decode(name.manifest(folder)).files.get(path.parent.name)
    return listed is None or not listed.sha256.startswith(digest)
