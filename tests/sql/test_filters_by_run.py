"""A filter by run reaches the files: no other run is read, however many the lake has."""

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest

from prunelake.analysis.analyse import analyse
from prunelake.lake.commit import write_analysis, write_run
from prunelake.lake.publish import publish
from prunelake.lake.sql.bound_query import Connection, sql_literal
from prunelake.lake.sql.views import connect
from tests.support.runs.lake_rows import identity_of, small_analysis, small_run

RUN_ID = identity_of("run")[1]

# They compare the rows of predictions, attributions and deletions with others of the same run.
COMPARING_VIEWS = ("paired_predictions", "example_metrics", "attribution_pairs", "level_overlaps")

CONDITIONS = (f"run_id = {sql_literal(RUN_ID)}", "model = 'run'", "task = 'run'")


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


@pytest.fixture(scope="module")
def lake_of_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of three small runs, each of another model and task."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("run", "second", "third"):
        run, frames = small_run(name)
        write_run(folder, run | {"model": name, "task": name}, frames)
        write_analysis(folder, *small_analysis(str(run["run_id"])))
    return folder


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_query_for_a_run_reads_the_rows_of_this_run_only(
    lake_of_models: Path, condition: str
) -> None:
    with connect(lake_of_models, [RUN_ID]) as alone, connect(lake_of_models) as lake:
        for view in COMPARING_VIEWS:
            expected = rows_read(alone, view, "true")
            assert rows_read(lake, view, condition) == expected > 0, view
            assert rows_read(lake, view, "true") > expected, view


def test_in_a_snapshot_a_subquery_reaches_the_stored_rows(lake_of_models: Path) -> None:
    subquery = "run_id in (select run_id from runs where model = 'run')"
    with duckdb.connect(publish(lake_of_models, analyse), read_only=True) as snapshot:
        for view in ("attribution_pairs", "example_faithfulness", "example_agreement"):
            of_three_runs = rows_read(snapshot, view, "true")
            for condition in (*CONDITIONS, subquery):
                read = rows_read(snapshot, view, condition)
                assert 3 * read == of_three_runs > 0, (view, condition)
