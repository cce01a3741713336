"""Queries for the charts of one run."""

from pathlib import Path

import polars as pl

from prunelake.api.queries import charts, run_metrics
from prunelake.lake.sql import views
from tests.support.runs.example_runs import explained_run
from tests.support.runs.lake_rows import frames, run_row, write


def test_layers_and_reliability_of_one_run(tmp_path: Path) -> None:
    run_id = explained_run(tmp_path)
    explained_run(tmp_path, "other")
    with views.connect(tmp_path) as connection:
        layers = charts.layer_importance(run_id).rows(connection).rows()
        bins = charts.reliability(run_id, 2).rows(connection)
    assert layers == [(0, 0.5, 1), (1, 0.25, 0)]
    assert bins["level"].unique(maintain_order=True).to_list() == [0, 2]
    assert bins.group_by("level").agg(pl.sum("n"))["n"].to_list() == [4, 4]


def test_frames_are_empty_for_a_run_without_rows(tmp_path: Path) -> None:
    run_id = write(tmp_path, run_row(), **{name: [] for name in frames()})
    with views.connect(tmp_path) as connection:
        assert (
            run_metrics.headline_metrics([run_id]).rows(connection)["value"].drop_nulls().is_empty()
        )
        assert charts.layer_importance(run_id).rows(connection).is_empty()
        assert run_metrics.correlations(run_id).rows(connection)["pearson"].drop_nulls().is_empty()
        assert charts.reliability(run_id, 0).rows(connection).is_empty()
