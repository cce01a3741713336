"""Find damage: files of runs, analyses and profiles whose bytes or rows have changed."""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import polars as pl

from prunelake.errors import LakeError, WrongFormat, one_line
from prunelake.identity import content_hash
from prunelake.lake.files import parquet
from prunelake.lake.files.checksums import CHECKSUM_DIFFERS, sha256
from prunelake.lake.files.findings import Finding, repair_hint
from prunelake.lake.files.manifest_files import ListedFile, parse_listed_files
from prunelake.lake.files.manifests import manifest_files, segment_files, segment_name
from prunelake.lake.files.paths import is_segment, owner_id, table_file
from prunelake.lake.files.row_checks import row_problems
from prunelake.lake.storage.location import Location, prefetch
from prunelake.lake.storage.objects import ObjectPath
from prunelake.schema.run_tables import RUN_TABLES
from prunelake.schema.table import Table, TableGroup
from prunelake.schema.tables import TABLE_GROUPS

CHECK_THREADS = 8
"""The number of manifests checked at once in a store, where reading a file is a request."""


def find_damage(lake: Location) -> Iterator[Finding]:
    """The damaged files of all runs, analyses and profiles: checksum, schema, rows, key and id.

    Raises:
        WrongFormat: an undamaged file of another format version.
    """
    for group in TABLE_GROUPS:
        for paths in manifest_files(lake, group):
            for manifest, findings in _check_manifests(group, paths):
                # A manifest that has disappeared was compacted meanwhile.
                if findings and manifest.is_file():
                    yield from findings


def _check_manifests(
    group: TableGroup, paths: Sequence[Location]
) -> Iterator[tuple[Location, list[Finding]]]:
    """Each manifest with the findings about the manifest and its listed files."""
    if not any(isinstance(path, ObjectPath) for path in paths):
        for path in paths:
            yield path, list(_manifest_findings(group, path))
        return
    pool = ThreadPoolExecutor(CHECK_THREADS)
    try:
        yield from pool.map(lambda path: (path, list(_manifest_findings(group, path))), paths)
    finally:
        pool.shutdown(cancel_futures=True)


def _manifest_findings(group: TableGroup, path: Location) -> Iterator[Finding]:
    remedy = repair_hint(path)
    try:
        fetched = prefetch(path)
        problem = parquet.manifest_problem(fetched)
        if problem:
            yield Finding(path, problem, remedy)
            return
        metadata = parquet.read_metadata(fetched)
        rows = parquet.read(fetched, group.manifest_table)
    except WrongFormat:
        raise
    except LakeError as error:
        yield Finding(path, str(error), remedy)
        return
    column = group.owner_column
    owners = rows[column].drop_nulls().to_list() if is_segment(path) else [owner_id(path)]
    for problem in (
        *_manifest_problems(path, rows),
        *row_problems(rows, group.manifest_table, owners),
        *(_identity_problems(rows) if group is RUN_TABLES else ()),
    ):
        yield Finding(path, problem, remedy)
    rows_by_owner = rows.select(column, "files").explode("files").unnest("files")
    if is_segment(path):
        files = segment_files(metadata) or []
    else:
        files = parse_listed_files(rows_by_owner.drop_nulls("table").to_dicts())
    by_table = {file.table: file for file in files}
    for table in group.data_tables:
        file = by_table.get(table.name)
        if file is not None:
            data_path = file.path(path)
            row_counts = rows_by_owner.filter(pl.col("table") == table.name).select(column, "rows")
            problems = _data_file_problems(data_path, table, row_counts, file)
        elif table.is_optional:
            continue
        else:
            data_path = table_file(path.parent.parent, table.name, owner_id(path))
            problems = iter([f"its {group.manifest_table.name} file does not list it"])
        for problem in problems:
            yield Finding(data_path, problem, remedy)


def _manifest_problems(path: Location, rows: pl.DataFrame) -> Iterator[str]:
    if not is_segment(path) and rows.height != 1:
        yield f"{rows.height} rows instead of one"
    if is_segment(path) and segment_name(rows) != owner_id(path):
        yield f"its rows hash to {segment_name(rows)}"


def _identity_problems(runs: pl.DataFrame) -> Iterator[str]:
    for run_id, identity in runs.select("run_id", "identity").iter_rows():
        try:
            actual_id = content_hash(json.loads(identity or ""))[:16]
        except ValueError:
            yield "its identity is not JSON"
        else:
            if actual_id != run_id:
                yield f"its identity hashes to {actual_id}, not to {run_id}"


def _data_file_problems(
    path: Location, table: Table, row_counts: pl.DataFrame, listed: ListedFile
) -> Iterator[str]:
    """The problems of a data file; `row_counts` has the expected number of rows of each run."""
    path = prefetch(path)
    if not path.is_file():
        yield "missing"
        return
    try:
        if sha256(path) != listed.sha256:
            yield CHECKSUM_DIFFERS
        frame = parquet.read(path, table)
    except LakeError as error:
        yield str(error)
        return
    except OSError as error:
        yield one_line(error)
        return
    problems = list(row_problems(frame, table, row_counts[table.owner_column].to_list()))
    yield from problems
    if problems:
        return
    actual_counts = dict(frame.group_by(table.owner_column).len().iter_rows())
    for owner, rows in row_counts.iter_rows():
        actual = actual_counts.get(owner, 0)
        if actual != rows:
            yield f"{actual} rows of {table.owner_kind} {owner} instead of the {rows} written"
