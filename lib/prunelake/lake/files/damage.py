"""Find damage: files of runs, analyses and profiles whose bytes or rows have changed."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import polars as pl

from prunelake.errors import LakeError
from prunelake.identity import content_hash
from prunelake.lake.files import parquet
from prunelake.lake.files.listed_file import ListedFile
from prunelake.lake.files.manifests import (
    Damage,
    GroupManifests,
    StoredManifest,
    commits_of,
    listed_files,
    read_group,
)
from prunelake.lake.files.row_checks import row_problems
from prunelake.lake.files.verified import content_problem
from prunelake.lake.storage.location import Location
from prunelake.lake.storage.reading import prefetch
from prunelake.schema.analysis_tables import ANALYSIS_TABLES
from prunelake.schema.profile_tables import PROFILE_TABLES
from prunelake.schema.run_tables import RUN_TABLES
from prunelake.schema.table import Table

CHECK_THREADS = 8
"""The number of manifests checked at once; in a store, reading a file is a request."""


def find_damage(lake: Location) -> Iterator[Damage]:
    """The damaged files of all runs, analyses and profiles: bytes, schema, rows, key and id.

    Every file is read completely.

    Raises:
        WrongFormat: an undamaged manifest of another format version.
    """
    runs = read_group(lake, RUN_TABLES)
    selected = runs.select()
    yield from _group_damage(runs, selected)
    commits = commits_of(selected)
    analyses = read_group(lake, ANALYSIS_TABLES, commits)
    yield from _group_damage(analyses, analyses.select(commits=commits))
    profiles = read_group(lake, PROFILE_TABLES)
    yield from _group_damage(profiles, profiles.select())


def _group_damage(group: GroupManifests, selected: list[StoredManifest]) -> Iterator[Damage]:
    yield from group.damaged
    read = [manifest for manifest in selected if manifest.run_ids]
    with ThreadPoolExecutor(CHECK_THREADS) as pool:
        for damage in pool.map(partial(_manifest_damage, group), read):
            yield from damage


def _manifest_damage(group: GroupManifests, manifest: StoredManifest) -> list[Damage]:
    tables = group.group
    found = [
        Damage(path, problem, tables, manifest.name, manifest.run_ids)
        for name, path, listed in listed_files(manifest)
        for problem in _file_problems(path, tables[name], manifest, listed)
    ]
    for table in tables.values():
        if table.name not in manifest.files and not table.is_optional:
            problem = f"it lists no file of the table {table.name}"
            found.append(Damage(manifest.path, problem, tables, manifest.name, manifest.run_ids))
    return found


def _file_problems(
    path: Location, table: Table, manifest: StoredManifest, listed: ListedFile
) -> Iterator[str]:
    path = prefetch(path)
    problem = content_problem(path, listed.sha256)
    if problem is not None:
        yield problem
        return
    try:
        frame = parquet.read(path, table)
    except LakeError as error:
        yield str(error)
        return
    problems = list(row_problems(frame, table, manifest.all_run_ids))
    yield from problems
    if problems:
        return
    if table is RUN_TABLES.owner_table:
        yield from _identity_problems(frame)
    counts = dict(frame.group_by(table.owner_column).len().iter_rows())
    for owner_id, owner in manifest.content.owners.items():
        actual, expected = counts.get(owner_id, 0), owner.rows.get(table.name, 0)
        if actual != expected:
            yield f"{actual} rows of {table.owner_kind} {owner_id} instead of {expected}"


def _identity_problems(runs: pl.DataFrame) -> Iterator[str]:
    for run_id, identity in runs.select("run_id", "identity").iter_rows():
        try:
            actual_id = content_hash(json.loads(identity or ""))[:16]
        except ValueError:
            yield "its identity is not JSON"
        else:
            if actual_id != run_id:
                yield f"its identity hashes to {actual_id}, not to {run_id}"
