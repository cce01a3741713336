"""A sweep as a library function: rows, refusals, messages."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from prunelake.cli.evaluate import evaluate
from prunelake.errors import LakeError, PrefectUnavailable
from prunelake.evaluation.predictions import predict
from prunelake.inference.nested import NestedModel
from prunelake.lake import read
from prunelake.lake.files.findings import FindingKind
from prunelake.lake.maintenance.verify import verify_lake
from prunelake.lake.partial_runs import ComputeCost
from prunelake.lake.sql import views
from prunelake.schema.run_tables import RUN_TABLES
from prunelake.settings import Settings
from prunelake.spec import Explanation, Strategy, SweepSpec
from prunelake.strategies.removal_order import removal_order
from prunelake.sweeps import steps
from prunelake.sweeps.executor import LocalExecutor
from prunelake.sweeps.plan import plan_sweep
from prunelake.sweeps.progress import ProgressMeter
from prunelake.sweeps.run import run_sweep
from prunelake.sweeps.shards import Shard
from tests.support.endurance import IS_ENDURANCE
from tests.support.lakes.lake_files import forget_analysis
from tests.support.lakes.local_paths import local_path
from tests.support.sweeps.counted_sweep import SHARDS, Counted
from tests.support.sweeps.small_sweep import small_sweep


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(lake=tmp_path / "lake", cache=tmp_path / "cache", device="cpu")


@pytest.fixture
def spec(tiny_folder: Path) -> SweepSpec:
    return small_sweep(tiny_folder)


@pytest.fixture
def bounded(spec: SweepSpec) -> SweepSpec:
    """A sweep of one example that also searches for bounds, at a few points of the curve."""
    explain = Explanation(
        rows=1, levels=(0, 3), operators=("replace",), fractions=(0.1, 0.2), bounds_beam=2
    )
    return spec.model_copy(update={"explain": explain})


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


def tables(settings: Settings) -> dict[str, pl.DataFrame]:
    return {name: read.read_table(settings.lake, name) for name in RUN_TABLES}


def test_a_sweep_fills_every_table_at_its_grain(settings: Settings, spec: SweepSpec) -> None:
    run_id = run_sweep(spec, settings)
    found = tables(settings)
    measured = {name: frame for name, frame in found.items() if not RUN_TABLES[name].is_optional}
    assert all(frame["run_id"].unique().to_list() == [run_id] for frame in measured.values())
    rankings = 3 * 2 * 4  # levels x examples x (three methods and the random ranking)
    tokens = found["examples"]["prompt_tokens"].list.len()[:2]
    fractions = sum(int(f * n + 1e-9) >= 1 for n in tokens for f in (0.1, 0.2, 0.3, 0.4, 0.5))
    assert {name: frame.height for name, frame in measured.items()} == {
        "runs": 1,
        "layers": 5,
        "examples": 5,
        "predictions": 3 * 5,
        "attributions": rankings,
        "deletions": 3 * 4 * fractions * 2 * 2,  # levels, rankings, operators, kinds
    }
    (run,) = found["runs"].to_dicts()
    assert run["levels"] == [0, 1, 3]
    assert sorted(run["removal_order"]) == [0, 1, 2, 3, 4]
    assert run["forward_tokens"] > 0
    known = spec.model_copy(update={"split_rows": 360})
    assert SweepSpec.model_validate_json(run["spec"]) == known
    assert not verify_lake(settings.lake)
    summary = views.query(settings.lake, "select * from summary order by level")
    assert summary["level"].to_list() == [0, 1, 3]
    assert summary["comprehensiveness"].null_count() == 0
    assert summary["explained_n"].to_list() == [2, 2, 2]


@pytest.mark.parametrize(
    "name",
    ["iterative", "loss", "divergence", "balanced", "last", "mlp:cosine", "block:loss"]
    if IS_ENDURANCE
    else ["iterative", "balanced", "block:loss"],
)
def test_a_sweep_takes_its_order_from_its_strategy(
    name: str, settings: Settings, spec: SweepSpec, counted: Counted
) -> None:
    strategy = Strategy.model_validate(name)
    spec = spec.model_copy(update={"strategy": strategy, "explain": None})
    run_id = counted.sweep(spec, settings)
    work = plan_sweep(spec, settings)
    assert work.identity.run_id == run_id
    model = steps.cached_model(work.source, spec.dtype, settings, print).model
    order = removal_order(model, strategy, work.calibration_windows, work.search_examples, depth=3)
    (run,) = read.read_table(settings.lake, "runs").to_dicts()
    assert (run["strategy"], run["removal_order"]) == (name, [*order.layers])
    layers = read.read_table(settings.lake, "layers").sort("layer")
    assert tuple(layers["importance"]) == pytest.approx(order.importance)
    predicting = counted.tokens - sum(map(len, work.calibration_windows))
    assert run["forward_tokens"] == round(predicting + order.forward_tokens)
    assert not verify_lake(settings.lake)
    (unit,) = views.query(settings.lake, "select unit from runs")["unit"]
    assert unit == strategy.unit
    nested = NestedModel(model, order.layers, unit=strategy.unit)
    expected = predict(nested, run_id, work.examples, work.levels)
    assert_frame_equal(
        read.read_table(settings.lake, "predictions"), expected, check_row_order=False
    )


def test_a_repeated_spec_does_no_model_work(
    settings: Settings, spec: SweepSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_sweep(spec, settings)
    before = tables(settings)
    monkeypatch.setattr(steps, "cached_model", lambda *_: pytest.fail("loaded"))
    assert run_sweep(spec, settings) == first
    for name, frame in tables(settings).items():
        assert_frame_equal(frame, before[name])


@pytest.mark.parametrize("again", [run_sweep, evaluate], ids=["library", "command"])
def test_a_repeated_spec_adds_a_missing_analysis(
    settings: Settings,
    spec: SweepSpec,
    monkeypatch: pytest.MonkeyPatch,
    again: Callable[[SweepSpec, Settings], str],
) -> None:
    run_id = run_sweep(spec, settings)
    expected = read.read_table(settings.lake, "metrics")
    forget_analysis(local_path(settings.lake), run_id)
    monkeypatch.setattr(steps, "cached_model", lambda *_: pytest.fail("loaded"))
    assert read.unanalysed_run_ids(settings.lake) == [run_id]
    assert again(spec, settings) == run_id
    # The files of the first analysis are left for garbage collection.
    assert {finding.kind for finding in verify_lake(settings.lake)} <= {FindingKind.orphaned}
    assert_frame_equal(read.read_table(settings.lake, "metrics"), expected)


def test_a_lake_that_cannot_be_written_is_refused_before_any_model_work(
    settings: Settings, spec: SweepSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    local_path(settings.lake).touch()
    monkeypatch.setattr(steps, "cached_model", lambda *_: pytest.fail("loaded"))
    with pytest.raises(LakeError, match="cannot be written"):
        run_sweep(spec, settings)


def test_a_random_order_and_predictions_only(settings: Settings, spec: SweepSpec) -> None:
    changed = spec.model_copy(update={"explain": None, "strategy": Strategy(name="random", seed=3)})
    run_sweep(changed, settings)
    found = tables(settings)
    assert found["runs"]["strategy"].to_list() == ["random:3"]
    assert found["predictions"].height == 15
    assert found["attributions"].is_empty()
    assert found["deletions"].is_empty()
    assert found["bounds"].is_empty()


def test_requested_bounds_enclose_the_curves_and_normalise_them(
    settings: Settings, bounded: SweepSpec
) -> None:
    lines: list[str] = []
    run_sweep(bounded, settings, LocalExecutor(lines.append))
    found = tables(settings)["bounds"]
    assert found.select("level", "operator", "kind", "beam_width").rows() == [
        (level, "replace", kind, 2)
        for level in (0, 3)
        for kind in ("comprehensiveness", "sufficiency")
    ]
    assert (found["lower"] < found["upper"]).all()
    assert any("a beam of 2 asks about at most" in line for line in lines)
    assert not verify_lake(settings.lake)
    areas = views.query(settings.lake, "from aopc where variant = 'normalised'")
    assert areas.height == 2 * 2 * 2  # levels, kinds, kernel_shap and random
    assert areas["value"].is_between(-0.05, 1.05).all()


def test_the_estimate_of_a_shard_follows_its_cost(
    settings: Settings, spec: SweepSpec, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimated: dict[str, tuple[float, float]] = {}
    add = ProgressMeter.add

    def recorded(meter: ProgressMeter, shard: Shard, cost: ComputeCost) -> Any:
        estimated[shard.name] = meter._estimates[shard], cost.forward_tokens
        return add(meter, shard, cost)

    monkeypatch.setattr(ProgressMeter, "add", recorded)
    counted.sweep(spec, settings)
    (explained, its_tokens), (predicted, their_tokens) = (estimated[name] for name in SHARDS)
    # Levels share passes, and equal prompts are asked once: a shard takes fewer tokens.
    assert 0.5 < (explained / predicted) / (its_tokens / their_tokens) < 2
    assert its_tokens > 20 * their_tokens


def test_a_sweep_logs_its_progress_and_its_result(settings: Settings, spec: SweepSpec) -> None:
    lines: list[str] = []
    run_id = run_sweep(spec, settings, LocalExecutor(lines.append))
    tokens = read.read_table(settings.lake, "runs")["forward_tokens"].item()
    assert any(
        re.fullmatch(r"5 of 5 examples, \d+ forward tokens a second; about 0:00:00 left", line)
        for line in lines
    )
    assert lines[-1].startswith(
        f"run {run_id} is in the lake: {spec.model} everyday_knowledge cosine; 5 examples, "
        f"levels [0, 1, 3], {tokens} forward tokens, "
    )
    assert lines[-1].endswith("(0 of 2 shards were there already)")
    lines.clear()
    run_sweep(spec, settings, LocalExecutor(lines.append))
    assert lines == [f"run {run_id} is in the lake already; nothing to compute"]


def test_ray_without_a_server_is_refused(settings: Settings, spec: SweepSpec) -> None:
    settings = settings.model_copy(update={"task_runner": "ray"})
    with pytest.raises(PrefectUnavailable, match="set PREFECT_API_URL to a server"):
        run_sweep(spec, settings)
    assert read.run_ids(settings.lake) == []
