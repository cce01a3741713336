"""A filter by run reaches the files: no other run is read, however many the lake has."""

import json
from pathlib import Path
from typing import Any

import duckdb

from prunelake.analysis.analyse import analyse
from prunelake.lake.commit import write_analysis, write_run
from prunelake.lake.publish import publish
from prunelake.lake.sql.bound_query import Connection, sql_literal
from prunelake.lake.sql.views import connect
from tests.support.runs.lake_rows import identity_of, small_analysis, small_run

RUN_ID = identity_of("run")[1]

# They compare the rows of predictions, attributions and deletions with others of the same run.
COMPARING_VIEWS = ("paired_predictions", "example_metrics", "attribution_pairs", "level_overlaps")


def rows_read(connection: Connection, view: str, condition: str) -> int:
    """How many rows a query reads from files, after the filters of its scans."""
    query = f"explain (analyze, format json) select max(columns(*)) from {view} where {condition}"
    ((_, plan),) = connection.execute(query).fetchall()
    return _rows_of_scans(json.loads(plan))


def _rows_of_scans(plan: Any) -> int:
    if isinstance(plan, list):
        return sum(map(_rows_of_scans, plan))
    if not isinstance(plan, dict):
        return 0
    # A subquery reads the runs, too.
    is_of_examples = plan.get("type") == "TABLE_SCAN" and not str(
        plan["extra_info"].get("Table", "")
    ).endswith("lake.runs")
    own: int = plan["intermediate_rows"] if is_of_examples else 0
    return own + sum(map(_rows_of_scans, plan.values()))


def test_a_query_for_a_run_reads_the_rows_of_this_run_only(tmp_path: Path) -> None:
    for name in ("run", "second", "third"):
        write_run(tmp_path, *small_run(name))
    of_run = f"run_id = {sql_literal(RUN_ID)}"
    with connect(tmp_path, [RUN_ID]) as alone, connect(tmp_path) as lake:
        for view in COMPARING_VIEWS:
            expected = rows_read(alone, view, of_run)
            assert rows_read(lake, view, of_run) == expected > 0, view
            assert rows_read(lake, view, "true") > expected, view


def test_pairs_in_a_snapshot_are_read_for_the_runs_of_every_filter(tmp_path: Path) -> None:
    for name in ("run", "second", "third"):
        run, frames = small_run(name)
        write_run(tmp_path, run | {"model": name, "task": name}, frames)
        write_analysis(tmp_path, *small_analysis(str(run["run_id"])))
    conditions = (
        f"run_id = {sql_literal(RUN_ID)}",
        "model = 'run'",
        "task = 'run'",
        "run_id in (select run_id from runs where model = 'run')",
    )
    path = publish(tmp_path, analyse)
    with duckdb.connect(path, read_only=True) as snapshot:
        for condition in conditions:
            assert rows_read(snapshot, "attribution_pairs", condition) == 1, condition
        assert rows_read(snapshot, "attribution_pairs", "true") == 3
