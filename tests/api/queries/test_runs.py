"""Queries for runs, their headline explanation, and the accuracy of guessing."""

from pathlib import Path

import pytest

from prunelake.api.queries import runs
from prunelake.lake.sql import views
from tests.support.runs.example_runs import explained_run
from tests.support.runs.lake_rows import identity_of, run_row, write

KERNEL, TEXT, RANDOM = "kernel_shap", "delete_text", "random"


@pytest.mark.parametrize(
    ("drops", "expected"),
    [
        ([(KERNEL, TEXT), (KERNEL, "replace"), ("input_x_gradient", TEXT)], [(KERNEL, TEXT)]),
        ([("lime", "replace"), ("input_x_gradient", "replace"), (RANDOM, TEXT)],
         [("input_x_gradient", "replace")]),
        ([("lime", "blank"), ("lime", TEXT)], [("lime", TEXT)]),
        ([(RANDOM, TEXT)], []),
        ([], []),
    ],
)  # fmt: skip
def test_the_headline_explanation(
    tmp_path: Path, drops: list[tuple[str, str]], expected: list[tuple[str, str]]
) -> None:
    run_id = explained_run(tmp_path, drops=dict.fromkeys(drops, 0.5))
    with views.connect(tmp_path) as connection:
        rows = runs.headline_explanation(run_id).rows(connection).rows()
    assert rows == [(*row, "eraser") for row in expected]


def test_the_variant_eraser_is_preferred(tmp_path: Path) -> None:
    for name, variants, expected in (("a", ("a", "eraser"), "eraser"), ("b", ("b", "c"), "b")):
        run = run_row(name, levels=[0], example_count=0)
        cell = {"run_id": run["run_id"], "level": 0, "operator": "", "value": 0.5}
        rows = [cell | {"metric": "accuracy", "method": "", "variant": ""}]
        for variant in variants:
            rows.append(cell | {"metric": "sufficiency", "method": "lime", "variant": variant})
        run_id = write(tmp_path, run, reported=rows)
        with views.connect(tmp_path) as connection:
            assert runs.headline_explanation(run_id).rows(connection).rows() == [
                ("lime", None, expected)
            ]


def test_guessing_by_options_and_by_the_most_frequent_gold_option(tmp_path: Path) -> None:
    run_id = explained_run(tmp_path)
    empty = write(tmp_path, run_row("empty"))
    with views.connect(tmp_path) as connection:
        assert runs.guessing_accuracy(run_id).rows(connection).rows() == [(0.5, 0.75)]
        assert runs.guessing_accuracy(empty).rows(connection).rows() == [(None, None)]


def test_all_or_chosen_runs_are_grouped_by_model(tmp_path: Path) -> None:
    for name, model in (("a", "second"), ("b", "first"), ("c", "second")):
        write(tmp_path, run_row(name, model=model, task=f"task_{name}"))
    with views.connect(tmp_path) as connection:
        assert runs.all_runs().rows(connection)["task"].to_list() == ["task_b", "task_a", "task_c"]
        chosen = runs.all_runs([identity_of("c")[1]]).rows(connection)
        assert chosen["task"].to_list() == ["task_c"]
        assert runs.all_runs([]).rows(connection).is_empty()
