"""Whether every file of a lake is as it was written; finds what is wrong and changes nothing."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from prunelake import parquet
from prunelake.errors import LakeError, WrongFormat, one_line
from prunelake.lake import analysed, require, run_ids, unanalysed
from prunelake.parts import (
    ANALYSED,
    FILES_KEY,
    MEASURED,
    Group,
    heads,
    is_segment,
    segment_name,
)
from prunelake.spec import content_hash
from prunelake.tables import ANALYSES, FORMAT_VERSION, Table


@dataclass(frozen=True)
class Finding:
    """Something wrong with one file of a lake, and what would put it right."""

    file: Path
    problem: str
    remedy: str


def doctor(lake: Path) -> list[Finding]:
    """Check every file of every complete run and analysis, and name what belongs to none.

    Raises:
        LakeError: no such folder.
    """
    require(lake)
    damaged = list(damage(lake))
    try:
        return [*damaged, *_leftovers(lake), *_without_analysis(lake)]
    except LakeError:
        # Which runs there are is unknown while a head file does not open: that is found above.
        return damaged


def damage(lake: Path) -> Iterator[Finding]:
    """What is wrong with the files of runs and analyses: hash, schema, rows, keys, identity."""
    for group in (MEASURED, ANALYSED):
        for paths in heads(lake, group):
            for head in paths:
                findings = list(_part_findings(group, head))
                # Otherwise a compaction has taken it meanwhile.
                if head.is_file():
                    yield from findings


def _without_analysis(lake: Path) -> Iterator[Finding]:
    for run_id in unanalysed(lake):
        path = lake / ANALYSES.name / f"{run_id}.parquet"
        yield Finding(path, "missing, or of another version", "run `prunelake analyse`")


def _leftovers(lake: Path) -> Iterator[Finding]:
    runs, with_analysis = set(run_ids(lake)), analysed(lake)
    for group in (MEASURED, ANALYSED):
        committed = {path.stem for paths in heads(lake, group) for path in paths}
        for path in sorted(p for name in group.tables for p in (lake / name).glob("*")):
            remedy = "delete it, unless a sweep is writing now"
            if path.name.startswith("."):
                problem = "leftover: a temporary file"
            elif is_segment(path) and path.stem not in committed:
                problem, remedy = "leftover: belongs to no segment", "run `prunelake compact`"
            elif path.suffix != ".parquet" or not (is_segment(path) or path.stem in runs):
                problem = "leftover: belongs to no complete run"
            elif path.stem not in committed:
                problem = f"leftover: its run has no {group.head.name} file of its own"
                is_merged = group is MEASURED or path.stem in with_analysis
                remedy = f"run `prunelake {'compact' if is_merged else 'analyse'}`"
            else:
                continue
            yield Finding(path, problem, remedy)


def _part_findings(group: Group, head: Path) -> Iterator[Finding]:
    remedy = parquet.remedy(head)
    try:
        says = parquet.metadata(head)
        rows = parquet.read(head, group.head)
    except WrongFormat:
        problem = f"another format than {FORMAT_VERSION}, which this version reads"
        yield Finding(head, problem, "use the version that wrote it, or another lake folder")
        return
    except LakeError as error:
        yield Finding(head, str(error), remedy)
        return
    runs = rows["run_id"].drop_nulls().to_list() if is_segment(head) else [head.stem]
    for problem in (
        *_head_problems(head, rows),
        *parquet.content_problems(rows, group.head, runs),
        *(_identity_problems(rows) if group is MEASURED else ()),
    ):
        yield Finding(head, problem, remedy)
    of_runs = rows.select("run_id", "files").explode("files").unnest("files")
    listed = json.loads(says.get(FILES_KEY, "[]")) if is_segment(head) else of_runs.to_dicts()
    by_table = {entry["table"]: entry for entry in listed}
    for name, table in group.tables.items():
        if table is group.head or (table.is_optional and name not in by_table):
            continue
        path = head.parent.parent / name / head.name
        counts = of_runs.filter(pl.col("table") == name).select("run_id", "rows")
        for problem in _table_problems(path, table, counts, by_table.get(name)):
            yield Finding(path, problem, remedy)


def _head_problems(head: Path, rows: pl.DataFrame) -> Iterator[str]:
    if not is_segment(head) and rows.height != 1:
        yield f"{rows.height} rows instead of one"
    if is_segment(head) and segment_name(rows) != head.stem:
        yield f"its rows hash to {segment_name(rows)}"


def _identity_problems(runs: pl.DataFrame) -> Iterator[str]:
    for run_id, identity in runs.select("run_id", "identity").iter_rows():
        try:
            found = content_hash(json.loads(identity or ""))[:16]
        except ValueError:
            yield "its identity is not JSON"
        else:
            if found != run_id:
                yield f"its identity hashes to {found}, not to {run_id}"


def _table_problems(
    path: Path, table: Table, counts: pl.DataFrame, listed: Mapping[str, Any] | None
) -> Iterator[str]:
    """What is wrong with a file, which should have `counts` rows of each run."""
    if listed is None:
        yield "its run does not list it"
        return
    if not path.is_file():
        yield "missing"
        return
    try:
        if parquet.sha256(path) != listed["sha256"]:
            yield "its bytes are not those that were written (SHA-256 differs)"
        frame = parquet.read(path, table)
    except LakeError as error:
        yield str(error)
        return
    except OSError as error:
        yield one_line(error)
        return
    foreign = list(parquet.content_problems(frame, table, counts["run_id"].to_list()))
    yield from foreign
    if foreign:
        return
    found = dict(frame.group_by("run_id").len().iter_rows())
    for run_id, rows in counts.iter_rows():
        if found.get(run_id, 0) != rows:
            yield f"{found.get(run_id, 0)} rows of run {run_id} instead of the {rows} written"
