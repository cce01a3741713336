"""Reuse: a sweep copies the cells that the lake has, and computes only the missing ones."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from prunelake.analysis import analyse
from prunelake.lake import read
from prunelake.lake.partial_runs import PartialRun
from prunelake.spec import Rows, Strategy, SweepSpec
from prunelake.sweeps import steps
from prunelake.sweeps.plan import plan_sweep
from prunelake.sweeps.reuse import find_cells
from prunelake.watch.evaluations import Evaluation
from prunelake.watch.launcher import LocalLauncher
from prunelake.watch.rounds import WatchRound
from tests.support.lakes.local_paths import local_path
from tests.support.sweeps.donor_lakes import (
    METHODS,
    QUESTIONS,
    Direct,
    Lake,
    assert_same_cells,
    changed,
    damage,
    donor_spec,
    interrupted,
    lake_in,
    write_donor_folder,
)
from tests.support.sweeps.fake_launcher import watchlist
from tests.support.tasks.question_task import write_task


@pytest.fixture(scope="module", autouse=True)
def no_analysis() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(analyse, "analyse", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_donor_folder(tmp_path_factory.mktemp("reuse"))


@pytest.fixture
def lake(tmp_path: Path, folder: Path) -> Lake:
    return lake_in(tmp_path, folder)


@pytest.fixture(scope="module")
def spec(folder: Path) -> SweepSpec:
    return donor_spec(folder)


@pytest.fixture(scope="module")
def direct(spec: SweepSpec, tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Direct:
    lake = lake_in(tmp_path_factory.mktemp("direct"), folder)
    run_id = lake.sweep(spec)
    assert lake.run(run_id)["copied"] == []
    return Direct(lake, run_id, lake.tokens(run_id), lake.cells(run_id))


SMALLER: dict[str, tuple[float, dict[str, Any]]] = {
    "rows": (0.05, {"rows": Rows(sample=4), "explain": {"rows": 1}}),
    "levels": (0.02, {"levels": (0, 3)}),
    "predictions": (0.02, {"explain": None}),
    "explained levels": (0.3, {"explain": {"levels": (0,)}}),
    "methods": (0.3, {"explain": {"methods": METHODS[:2]}}),
    "seeds": (0.3, {"explain": {"seeds": (0,)}}),
    "operators": (0.3, {"explain": {"operators": ("replace",)}}),
    "fractions": (0.3, {"explain": {"fractions": (0.2,)}}),
}
"""Smaller specs, and the share of tokens that a direct run saves by asking everything at once:
it asks equal prompts once, levels share tokens, and prompts of all examples share beginnings."""


@pytest.mark.parametrize(("saved", "smaller"), SMALLER.values(), ids=SMALLER)
def test_a_grown_run_equals_a_direct_run_and_computes_only_the_rest(
    lake: Lake, spec: SweepSpec, direct: Direct, saved: float, smaller: dict[str, Any]
) -> None:
    donor = lake.sweep(changed(spec, **smaller))
    run_id = lake.sweep(spec)
    assert_same_cells(lake.cells(run_id), direct.cells)
    assert lake.tokens(donor, run_id) == pytest.approx(direct.tokens, rel=saved)


def test_a_part_of_a_run_needs_no_model(
    lake: Lake, spec: SweepSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    donor = lake.sweep(spec)
    monkeypatch.setattr(steps, "cached_model", lambda *_: pytest.fail("loaded"))
    explain = {"methods": METHODS[2:], "seeds": (1,), "levels": (0,), "bounds_beam": None}
    run_id = lake.sweep(changed(spec, explain, rows=Rows(sample=3), levels=(0, 1)))
    run = lake.run(run_id)
    assert (run["forward_tokens"], run["duration_s"], run["device"]) == (0, 0.0, "copied")
    curves = lake.cells(donor)["deletions"].filter(
        pl.col("method").is_in(["leverage_shap", "random"]), level=0, seed=1
    )
    assert lake.copied(run_id) == {
        "predictions": 6,
        "attributions": 2 * 2,  # examples x rankings
        "deletions": curves.height,
        "layers": 5,
    }
    assert f"copied from {donor}: 6 of 6 predictions, 4 of 4 attributions" in "".join(lake.lines)
    for name, rows in lake.cells(run_id).items():
        columns = rows.columns[1:]  # without run_id
        kept = rows.join(lake.cells(donor)[name], on=columns, how="semi", nulls_equal=True)
        assert kept.height == rows.height


def test_strategies_share_the_levels_at_which_they_remove_the_same_layers(
    lake: Lake, spec: SweepSpec
) -> None:
    """Seed 0 removes the layers 3, 2, 1 first, seed 6 the layers 1, 2, 3; MLPs are other parts."""
    lake.sweep(changed(spec, strategy=Strategy(name="random", seed=0)))
    run_id = lake.sweep(changed(spec, strategy=Strategy(name="random", seed=6)))
    everything = {table: rows.height for table, rows in lake.cells(run_id).items()}
    assert lake.copied(run_id) == everything | {"predictions": 2 * 6}  # levels 0 and 3
    run_id = lake.sweep(changed(spec, strategy=Strategy.model_validate("mlp:random:0")))
    assert lake.copied(run_id) == {  # level 0
        "predictions": 6,
        "attributions": everything["attributions"] // 2,
        "deletions": everything["deletions"] // 2,
        "bounds": everything["bounds"] // 2,
    }


def test_a_removal_order_is_reused_unless_a_greedy_search_must_go_deeper(
    lake: Lake, spec: SweepSpec, folder: Path
) -> None:
    other = write_task(folder, "other", [(n, text, 0) for n, text in enumerate(QUESTIONS[:6])])
    for name, is_greedy in (("loss", True), ("cosine", False)):
        for levels, is_found in (((0, 1), False), ((0, 1, 3), not is_greedy), ((0, 2), True)):
            strategy = Strategy.model_validate(name)
            run_id = lake.sweep(changed(spec, None, strategy=strategy, levels=levels))
            assert ("layers" in lake.copied(run_id)) is is_found
    # The order depends on calibration text, not on the task.
    strategy = Strategy(name="loss")
    run_id = lake.sweep(changed(spec, None, strategy=strategy, levels=(0, 3), task=str(other)))
    assert "layers" in lake.copied(run_id)


def test_the_content_of_an_example_decides_and_masks_follow_its_id(
    spec: SweepSpec, direct: Direct, folder: Path
) -> None:
    """The second task has the questions in another order, and its right option is the other one."""
    rows = [(-n, text, (n + 1) % 2) for n, text in enumerate(QUESTIONS)]
    rows.append((-99, "what", 1))
    other = changed(spec, task=str(write_task(folder, "reordered", rows)))
    plan = plan_sweep(changed(other, rows=Rows(first=9)), direct.lake.settings)
    order = tuple(direct.lake.run(direct.run_id)["removal_order"])
    cells = find_cells(direct.lake.settings.lake, plan, order, print).frames
    assert cells["predictions"].height == 6 * 3
    assert all(frame.is_empty() for name, frame in cells.items() if name != "predictions")
    gold = {example.example.prompt: example.example.gold for example in plan.examples}
    prompts = {example.example.example_id: example.example.prompt for example in plan.examples}
    for row in cells["predictions"].iter_rows(named=True):
        assert row["gold"] == gold[prompts[row["example_id"]]]
        assert row["is_correct"] == (row["prediction"] == row["gold"])
        assert row["is_correct_norm"] == (row["prediction_norm"] == row["gold"])


@pytest.mark.parametrize(
    ("change", "rankings", "operators"),
    [
        ({"baseline_token": 5}, {"input_x_gradient", "random"}, {"delete_text"}),
        ({"leverage_samples": 2.0}, {"difference_shap", "input_x_gradient", "random"}, None),
        ({"unpruned_samples": 9.0}, {"leverage_shap", "input_x_gradient", "random"}, None),
    ],
)
def test_an_explanation_with_other_settings_is_another_cell(
    spec: SweepSpec,
    direct: Direct,
    change: dict[str, Any],
    rankings: set[str],
    operators: set[str] | None,
) -> None:
    plan = plan_sweep(changed(spec, change), direct.lake.settings)
    order = tuple(direct.lake.run(direct.run_id)["removal_order"])
    cells = find_cells(direct.lake.settings.lake, plan, order, print).frames
    assert set(cells["attributions"]["method"]) == rankings
    assert set(cells["deletions"]["method"]) == rankings
    operators = operators or {"delete_text", "replace"}
    assert set(cells["deletions"]["operator"]) == operators
    assert set(cells["bounds"]["operator"]) == operators


def test_other_numbers_tokens_and_searches_have_cells_of_their_own(
    spec: SweepSpec, direct: Direct
) -> None:
    order = tuple(direct.lake.run(direct.run_id)["removal_order"])
    others = (
        changed(spec, dtype="bfloat16"),
        changed(spec, special_tokens="bos"),
        changed(spec, {"bounds_beam": 2}),
    )
    plans = [plan_sweep(other, direct.lake.settings) for other in others]
    found = [find_cells(direct.lake.settings.lake, plan, order, print).frames for plan in plans]
    assert [frames["predictions"].height for frames in found] == [0, 0, 18]
    assert found[2]["bounds"].is_empty()


@pytest.mark.parametrize("table", ["attributions", "layers"])
def test_a_damaged_donor_is_skipped_with_a_warning(
    lake: Lake, spec: SweepSpec, direct: Direct, table: str
) -> None:
    small = changed(spec, {"rows": 1, "bounds_beam": None}, rows=Rows(sample=4))
    donor = lake.sweep(small)
    path = damage(lake, donor, table)
    run_id = lake.sweep(spec)
    assert_same_cells(lake.cells(run_id), direct.cells)
    (warning,) = [line for line in lake.lines if line.startswith("warning: ")]
    assert f"warning: {path}: its bytes have changed" in warning
    assert (lake.copied(run_id).keys() == {"layers"}) is (table != "layers")
    assert ("predictions" in lake.copied(run_id)) is (table == "layers")


def test_the_finished_shards_of_another_run_are_reused(
    lake: Lake, spec: SweepSpec, direct: Direct
) -> None:
    donor = interrupted(lake, changed(spec, rows=Rows(sample=5)), "000002-000005")
    run_id = lake.sweep(spec)
    assert_same_cells(lake.cells(run_id), direct.cells)
    assert {row["run_id"] for row in lake.run(run_id)["copied"]} == {donor}
    explained = {"attributions", "deletions", "bounds"}
    assert lake.copied(run_id) == {name: direct.cells[name].height for name in explained} | {
        "predictions": 2 * 3,
        "layers": 5,
    }
    assert PartialRun(lake.settings.lake, donor).finished_shards() == ["000000-000002", "order"]


@pytest.mark.parametrize("shard", ["order", "000000-000002"])
def test_a_damaged_shard_of_another_run_is_not_reused(
    lake: Lake, spec: SweepSpec, direct: Direct, shard: str
) -> None:
    donor = interrupted(lake, changed(spec, rows=Rows(sample=5)), "000002-000005")
    folder = local_path(PartialRun(lake.settings.lake, donor).folder)
    (folder / f"{shard}.json").write_bytes(b"damaged")
    run_id = lake.sweep(spec)
    assert_same_cells(lake.cells(run_id), direct.cells)
    assert "predictions" not in lake.copied(run_id)


def test_an_interrupted_grown_run_continues(lake: Lake, spec: SweepSpec, direct: Direct) -> None:
    small = changed(spec, {"rows": 1}, rows=Rows(sample=4))
    donor = lake.sweep(small)
    assert interrupted(lake, spec, "000002-000006") == direct.run_id
    damage(lake, donor, "predictions")  # the finished shard has its cells now
    lake.lines.clear()
    run_id = lake.sweep(spec)
    assert_same_cells(lake.cells(run_id), direct.cells)
    assert lake.copied(run_id).keys() == {*direct.cells, "layers"}
    assert "(1 of 2 shards were there already)" in lake.lines[-1]


def test_a_watchlist_that_asks_for_more_rows_extends_its_runs(
    lake: Lake, spec: SweepSpec, tmp_path: Path
) -> None:
    def sweep(evaluation: Evaluation) -> None:
        assert isinstance(evaluation.spec, SweepSpec)
        lake.sweep(evaluation.spec)

    def watch(rows: int) -> list[str]:
        entry = {"model": spec.model, "tasks": [spec.task], "rows": {"sample": rows}}
        models = watchlist(tmp_path, entry, levels=[0, 1, 3], strategies=["last"])
        launcher = LocalLauncher(sweep)
        return [str(line.state) for line in WatchRound(models, lake.settings, launcher).run()]

    assert [watch(4), watch(4), watch(6), watch(6)] == [["evaluated"], [], ["evaluated"], []]
    small, large = sorted(
        (lake.run(run_id) for run_id in read.run_ids(lake.settings.lake)),
        key=lambda run: run["example_count"],
    )
    assert lake.copied(large["run_id"]) == {"predictions": 3 * 4, "layers": 5}
    assert large["forward_tokens"] < small["forward_tokens"]


def test_each_level_explains_its_own_number_of_rows(lake: Lake, spec: SweepSpec) -> None:
    every = {"rows": 5, "levels": (0, 1, 3), "bounds_beam": None}
    lake.sweep(changed(spec, every))
    run_id = lake.sweep(changed(spec, every | {"level_rows": ((1, 2),)}))
    assert lake.tokens(run_id) == 0  # the donor has more cells than the sweep needs
    assert explained_rows(lake, run_id, "attributions") == {0: 5, 1: 2, 3: 5}
    assert explained_rows(lake, run_id, "deletions") == {0: 5, 1: 2, 3: 5}
    other = lake.sweep(changed(spec, every | {"level_rows": ((1, 3), (3, 4))}))
    assert explained_rows(lake, other, "attributions") == {0: 5, 1: 3, 3: 4}


def explained_rows(lake: Lake, run_id: str, table: str) -> dict[int, int]:
    counts = lake.cells(run_id)[table].group_by("level").agg(pl.col("example_id").n_unique())
    return dict(counts.iter_rows())
