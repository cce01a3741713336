"""Queries that name candidates, and leave out scores of tokens that the baseline does not have."""

from pathlib import Path

from prunelake.api.findings.selection import SelectionRequest, find_run
from prunelake.api.queries import examples, runs
from prunelake.lake.sql import views
from tests.support.runs.example_runs import explained_run
from tests.support.runs.lake_rows import (
    attribution,
    example,
    named_level,
    prediction,
    run_row,
    write_raw,
)

METHOD = attribution("", 0, "", [])["method"]
LABELS = ("fp16", "int8", "int4")


def test_scores_of_other_tokens_are_left_out(tmp_path: Path) -> None:
    run = run_row("c", strategy="comparison", levels=[0, 1, 2], removal_order=[], layer_count=None)
    run_id = str(run["run_id"])
    write_raw(
        tmp_path,
        run,
        levels=[
            named_level(run_id, 0, "fp16"),
            named_level(run_id, 1, "int8"),
            named_level(run_id, 2, "other", shares_tokens=False),
        ],
        examples=[example(run_id, "test:0")],
        predictions=[prediction(run_id, level, "test:0", [0.0, -1.0]) for level in (0, 1, 2)],
        attributions=[attribution(run_id, level, "test:0", [3.0, 2.0, 1.0]) for level in (0, 1, 2)],
    )
    with views.connect(tmp_path) as connection:
        for level, scores, shares_tokens in ((1, [3.0, 2.0, 1.0], True), (2, [None] * 3, False)):
            query = examples.token_scores(run_id, "test:0", level, METHOD)
            assert query.rows(connection)["pruned"].to_list() == scores
            (found,) = examples.example(run_id, "test:0", level).rows(connection).to_dicts()
            assert found["shares_tokens"] is shares_tokens
        sides = examples.predictions(run_id, "test:0", 2).rows(connection)
        assert sides["label"].to_list() == ["fp16", "other"]


def test_runs_have_the_labels_of_their_levels_and_runs_of_level_0_come_last(tmp_path: Path) -> None:
    compared = explained_run(tmp_path, "compared", labels=LABELS)
    alone = run_row("alone", levels=[0])
    write_raw(tmp_path, {**alone, "created_at": alone["created_at"].replace(year=2027)})
    with views.connect(tmp_path) as connection:
        rows = {row["run_id"]: row for row in runs.model_runs().rows(connection).to_dicts()}
        assert (rows[compared]["kind"], rows[compared]["labels"]) == ("candidate", [*LABELS])
        assert (rows[alone["run_id"]]["kind"], rows[alone["run_id"]]["labels"]) == (
            "removal",
            ["0"],
        )
        assert (
            find_run(lambda query: query.rows(connection), SelectionRequest())["run_id"] == compared
        )
