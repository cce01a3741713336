import re
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.sorting import FlowRunSort
from prefect.flows import load_flow_from_entrypoint
from prefect.testing.utilities import prefect_test_harness

from flows import shards as shard_module
from flows import sweep as flow_module
from flows.progress import estimate_token_count
from prunelake.cli import sweep
from prunelake.errors import LakeError
from prunelake.evaluation.predictions import predict
from prunelake.inference.nested import NestedModel
from prunelake.lake import commit, partial_runs, read, views
from prunelake.lake.partial_runs import ORDER_SHARD
from prunelake.lake.verify import verify_lake
from prunelake.models.loading import load_model
from prunelake.schema.run_tables import RUN_TABLES
from prunelake.settings import Settings
from prunelake.spec import Calibration, Explanation, Rows, Strategy, SweepSpec
from prunelake.strategies.importance import removal_order
from prunelake.sweep import shards
from prunelake.sweep.plan import SweepPlan, plan_sweep
from prunelake.sweep.shard_work import evaluate_shard, shard_work
from prunelake.sweep.shards import Shard
from tests.support import sweep_processes
from tests.support.example_runs import judged_run
from tests.support.local_paths import local_path
from tests.support.paths import ROOT
from tests.support.sweep_processes import sweep_without_prefect


@pytest.fixture(scope="module", autouse=True)
def prefect() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(lake=tmp_path / "lake", cache=tmp_path / "cache", device="cpu")


@pytest.fixture
def spec(tiny_folder: Path) -> SweepSpec:
    return SweepSpec(
        model=str(tiny_folder),
        task="everyday_knowledge",
        rows=Rows(first=5),
        levels=(0, 1, 3),
        calibration=Calibration(windows=1, window_tokens=64),
        explain=Explanation(methods=("kernel_shap", "lime", "input_x_gradient"), rows=2),
    )


@pytest.fixture
def bounded(spec: SweepSpec) -> SweepSpec:
    """A sweep that also searches for bounds, of one example at a few points of the curve."""
    explain = Explanation(
        rows=1, levels=(0, 3), operators=("replace",), fractions=(0.1, 0.2), bounds_beam=2
    )
    return spec.model_copy(update={"explain": explain})


def tables(settings: Settings) -> dict[str, pl.DataFrame]:
    return {name: read.read_table(settings.lake, name) for name in RUN_TABLES}


def test_a_sweep_fills_every_table_at_its_grain(settings: Settings, spec: SweepSpec) -> None:
    run_id = flow_module.sweep(spec, settings)
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
    assert SweepSpec.model_validate_json(run["spec"]) == spec
    assert not verify_lake(settings.lake)
    summary = views.query(settings.lake, "select * from summary order by level")
    assert summary["level"].to_list() == [0, 1, 3]
    assert summary["comprehensiveness"].null_count() == 0
    assert summary["explained_n"].to_list() == [2, 2, 2]


@pytest.mark.parametrize(
    "name", ["iterative", "loss", "divergence", "balanced", "last", "mlp:cosine", "block:loss"]
)
def test_a_sweep_takes_its_order_from_its_strategy(
    name: str, settings: Settings, spec: SweepSpec, counted: "Counted"
) -> None:
    strategy = Strategy.model_validate(name)
    spec = spec.model_copy(update={"strategy": strategy, "explain": None})
    run_id = counted.sweep(spec, settings)
    work = plan_sweep(spec, settings)
    assert work.identity.run_id == run_id
    model = shard_module.cached_model(work.source, spec.dtype, settings).model
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


def test_the_same_spec_again_does_no_model_work(
    settings: Settings, spec: SweepSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = flow_module.sweep(spec, settings)
    before = tables(settings)
    monkeypatch.setattr(shard_module, "cached_model", lambda *_: pytest.fail("loaded"))
    assert flow_module.sweep(spec, settings) == first
    for name, frame in tables(settings).items():
        assert_frame_equal(frame, before[name])


@pytest.mark.parametrize("again", [flow_module.sweep, sweep.run_sweep], ids=["flow", "command"])
def test_a_run_without_its_analysis_gets_it_from_the_same_spec_again(
    settings: Settings,
    spec: SweepSpec,
    monkeypatch: pytest.MonkeyPatch,
    again: Callable[[SweepSpec, Settings], str],
) -> None:
    run_id = flow_module.sweep(spec, settings)
    expected = read.read_table(settings.lake, "metrics")
    (
        local_path(settings.lake) / "analyses" / f"{run_id}.parquet"
    ).unlink()  # as a killed sweep leaves it
    monkeypatch.setattr(shard_module, "cached_model", lambda *_: pytest.fail("loaded"))
    assert read.unanalysed_run_ids(settings.lake) == [run_id]
    assert again(spec, settings) == run_id
    assert not verify_lake(settings.lake)
    assert_frame_equal(read.read_table(settings.lake, "metrics"), expected)


def test_a_lake_that_cannot_be_written_is_refused_before_any_model_work(
    settings: Settings, spec: SweepSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    local_path(settings.lake).touch()
    monkeypatch.setattr(shard_module, "cached_model", lambda *_: pytest.fail("loaded"))
    with pytest.raises(LakeError, match="cannot be written"):
        flow_module.sweep(spec, settings)


def test_a_random_order_and_predictions_only(settings: Settings, spec: SweepSpec) -> None:
    changed = spec.model_copy(update={"explain": None, "strategy": Strategy(name="random", seed=3)})
    flow_module.sweep(changed, settings)
    found = tables(settings)
    assert found["runs"]["strategy"].to_list() == ["random:3"]
    assert found["predictions"].height == 15
    assert found["attributions"].is_empty()
    assert found["deletions"].is_empty()
    assert found["bounds"].is_empty()


def test_asked_for_bounds_enclose_the_curves_and_normalise_them(
    settings: Settings, bounded: SweepSpec, caplog: pytest.LogCaptureFixture
) -> None:
    flow_module.sweep(bounded, settings)
    found = tables(settings)["bounds"]
    assert found.select("level", "operator", "kind", "beam_width").rows() == [
        (level, "replace", kind, 2)
        for level in (0, 3)
        for kind in ("comprehensiveness", "sufficiency")
    ]
    assert (found["lower"] < found["upper"]).all()
    assert "a beam of 2 asks about at most" in caplog.text
    assert not verify_lake(settings.lake)
    areas = views.query(settings.lake, "from aopc where variant = 'normalised'")
    assert areas.height == 2 * 2 * 2  # levels, kinds, kernel_shap and random
    assert areas["value"].is_between(-0.05, 1.05).all()


class Counted:
    """A sweep without a server, and what its model is asked to do."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sweep = sweep_without_prefect(monkeypatch)
        self.tokens = 0.0
        self.shards: list[str] = []
        self.failing: str | None = None

        def counted(work: Any, encoder: Any, model: Any, report: Any) -> Any:
            if work.shard.name == self.failing:
                raise RuntimeError("the power is gone")
            found = evaluate_shard(work, encoder, model, report)
            self.tokens += model.forward_tokens
            self.shards.append(work.shard.name)
            return found

        def ordered(model: Any, strategy: Any, windows: Any, *others: Any) -> Any:
            self.tokens += sum(map(len, windows))
            self.shards.append(ORDER_SHARD)
            return removal_order(model, strategy, windows, *others)

        monkeypatch.setattr(shard_module, "evaluate_shard", counted)
        monkeypatch.setattr(shard_module, "removal_order", ordered)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


SHARDS = ["000000-000002", "000002-000005"]


def test_an_interrupted_sweep_computes_only_what_is_missing(
    settings: Settings, spec: SweepSpec, counted: Counted, tmp_path: Path
) -> None:
    undisturbed = Settings(lake=tmp_path / "undisturbed", cache=settings.cache, device="cpu")
    counted.sweep(spec, undisturbed)
    assert counted.shards == [ORDER_SHARD, *SHARDS]
    total = counted.tokens
    counted.tokens, counted.shards, counted.failing = 0.0, [], SHARDS[1]
    with pytest.raises(RuntimeError, match="the power is gone"):
        counted.sweep(spec, settings)
    assert counted.shards == [ORDER_SHARD, SHARDS[0]]
    assert not read.run_ids(settings.lake)
    assert verify_lake(settings.lake) == []
    counted.failing = None
    counted.sweep(spec, settings)
    assert counted.shards == [ORDER_SHARD, *SHARDS]
    assert counted.tokens == total
    found = sweep_processes.tables(local_path(settings.lake))
    for name, frame in sweep_processes.tables(local_path(undisturbed.lake)).items():
        assert_frame_equal(found[name], frame)
    assert found["runs"]["forward_tokens"].item() == round(total)


def test_a_shard_that_is_finished_is_not_measured_again(
    settings: Settings, spec: SweepSpec, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Ray asks for it, whose worker died when it had stored a shard and not yet said so."""
    work = plan_sweep(spec, settings)
    unfinished = partial_runs.PartialRun(settings.lake, work.identity.run_id)
    order = removal_order(load_model(work.source).model, Strategy(name="random"), ())
    whole = shard_work(work, shards.Shard(0, 2))
    measure = shard_module.measure_shard.fn
    first = measure(whole, order, settings, unfinished)
    monkeypatch.setattr(shard_module, "cached_model", lambda *_: pytest.fail("loaded"))
    assert measure(whole, order, settings, unfinished) == first
    assert counted.shards == ["000000-000002"]


def test_a_run_of_which_all_shards_are_finished_is_committed_without_its_model(
    settings: Settings, spec: SweepSpec, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(commit, "write_run", lambda *_: (_ for _ in ()).throw(RuntimeError("killed")))
        with pytest.raises(RuntimeError, match="killed"):
            counted.sweep(spec, settings)
    monkeypatch.setattr(shard_module, "cached_model", lambda *_: pytest.fail("loaded"))
    run_id = counted.sweep(spec, settings)
    assert read.run_ids(settings.lake) == [run_id]
    assert list((local_path(settings.lake) / ".shards").iterdir()) == []


@pytest.mark.parametrize(
    ("damaged", "again"), [(SHARDS[1], [SHARDS[1]]), (ORDER_SHARD, [ORDER_SHARD, *SHARDS])]
)
def test_what_was_damaged_is_computed_again_and_told(
    settings: Settings,
    spec: SweepSpec,
    counted: Counted,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    damaged: str,
    again: list[str],
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(commit, "write_run", lambda *_: (_ for _ in ()).throw(RuntimeError("killed")))
        with pytest.raises(RuntimeError, match="killed"):
            counted.sweep(spec, settings)
    counted.shards = []
    (path,) = (local_path(settings.lake) / ".shards").glob(f"*/shards/{damaged}.parquet")
    path.write_bytes(b"damaged")
    counted.sweep(spec, settings)
    assert counted.shards == again
    assert f"{path} is not the file that was written; {damaged} is computed again" in caplog.text


def test_what_a_killed_sweep_left_behind_its_run_is_removed(
    settings: Settings, spec: SweepSpec, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(partial_runs.PartialRun, "delete", lambda _: None)
        run_id = counted.sweep(spec, settings)
    assert (settings.lake / ".shards" / run_id).is_dir()
    counted.shards = []
    assert counted.sweep(spec, settings) == run_id
    assert counted.shards == []
    assert list((local_path(settings.lake) / ".shards").iterdir()) == []


def test_shards_are_weighed_by_what_they_cost(
    settings: Settings, spec: SweepSpec, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    weighed: dict[str, tuple[float, float]] = {}

    def reporter(work: SweepPlan, shards: Sequence[Shard], _: Collection[Shard]) -> Any:
        del shards
        return lambda shard, cost: weighed.update(
            {shard.name: (estimate_token_count(work, shard), cost.forward_tokens)}
        )

    monkeypatch.setattr(flow_module, "progress_reporter", reporter)
    counted.sweep(spec, settings)
    (explained, its_tokens), (predicted, their_tokens) = (weighed[name] for name in SHARDS)
    # Levels share passes, and equal prompts are asked about once: that takes a part of each.
    assert 0.5 < (explained / predicted) / (its_tokens / their_tokens) < 2
    assert its_tokens > 20 * their_tokens


def test_a_sweep_is_seen_at_a_glance(
    settings: Settings, spec: SweepSpec, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings.model_copy(update={"page_url": "http://lake.example:8000/"})
    run_id = flow_module.sweep(spec, settings)
    with get_client(sync_client=True) as client:
        (run,) = client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=1)
        of_run = FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))
        artifacts = client.read_artifacts(flow_run_filter=of_run)
        deadline = time.monotonic() + 60
        names: set[str] = set()
        while "analyse_run" not in {name.split("-")[0] for name in names}:  # they come by and by
            assert time.monotonic() < deadline, names
            names = {task.name for task in client.read_task_runs(flow_run_filter=of_run)}
    assert run.name == f"{spec.model} everyday_knowledge cosine"
    assert {"examples 0 to 1", "examples 2 to 4"} <= names
    progress, *shown = sorted(artifacts, key=lambda artifact: artifact.key or "")
    assert (progress.type, progress.data) == ("progress", 100.0)
    keys = ["charts", "hidden-degradations", "sweep-summary"]
    assert [artifact.key for artifact in shown] == keys
    assert f"(http://lake.example:8000/?run={run_id})" in str(shown[0].data)
    tokens = read.read_table(settings.lake, "runs")["forward_tokens"].item()
    assert re.search(
        r"5 of 5 examples, \d+ forward tokens a second; about 0:00:00 left", caplog.text
    )
    said = f"run {run_id} is in the lake: {spec.model} everyday_knowledge cosine; 5 examples, "
    assert f"{said}levels [0, 1, 3], {tokens} forward tokens, " in caplog.text
    assert "(0 of 2 shards were there already); no hidden degradation" in caplog.text


def test_hidden_degradations_are_shown_and_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: dict[str, list[dict[str, Any]]] = {}
    events: list[tuple[str, dict[str, str], dict[str, Any]]] = []

    def create(table: list[dict[str, Any]], key: str, description: str) -> None:
        assert run["run_id"] in description
        shown[key] = table

    def emit(event: str, resource: dict[str, str], payload: dict[str, Any]) -> None:
        events.append((event, resource, payload))

    run_id = judged_run(tmp_path, n=400)
    sweep_without_prefect(monkeypatch)
    monkeypatch.setattr(flow_module, "create_table_artifact", create)
    monkeypatch.setattr("flows.events.emit_event", emit)
    (run,) = read.read_table(tmp_path, "runs").to_dicts()
    said = flow_module.announce_verdicts(Settings(lake=tmp_path), run)
    assert said == "hidden degradations at levels [1]"
    assert {row["level"] for row in shown["hidden-degradations"]} == {1}
    assert "ece" in {row["metric"] for row in shown["hidden-degradations"]}
    assert [row["level"] for row in shown["sweep-summary"]] == [0, 1, 2]
    (event,) = events
    name, resource, payload = event
    assert name == "prunelake.hidden_degradation.found"
    assert resource["prefect.resource.id"] == f"prunelake.run.{run_id}"
    assert {row["level"] for row in payload["found"]} == {1}


@pytest.mark.parametrize("broken", ["views.connect", "create_table_artifact", "emit_event"])
def test_what_only_shows_a_run_cannot_fail_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    broken: str,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("gone")

    judged_run(tmp_path, n=400)
    sweep_without_prefect(monkeypatch)
    where = "flows.events" if broken == "emit_event" else "flows.sweep"
    monkeypatch.setattr(f"{where}.{broken}", fail)
    (run,) = read.read_table(tmp_path, "runs").to_dicts()
    said = flow_module.announce_verdicts(Settings(lake=tmp_path), run)
    assert said == "verdicts not shown"
    assert "is written, but its verdicts are not shown: RuntimeError: gone" in caplog.text


def test_prefect_finds_the_flow_by_the_entrypoint_of_the_deployment() -> None:
    root = ROOT
    found: Flow[..., object] = load_flow_from_entrypoint(
        f"{root}/flows/sweep.py:sweep", use_placeholder_flow=False
    )
    assert found.name == "sweep"
