from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from prefect import Flow
from prefect.flows import load_flow_from_entrypoint
from prefect.testing.utilities import prefect_test_harness

from flows import stages
from flows import sweep as flow_module
from prunelake import cli, lake, views
from prunelake.doctor import doctor
from prunelake.errors import LakeError
from prunelake.spec import Calibration, Explanation, Rows, Settings, Strategy, SweepSpec
from prunelake.tables import TABLES


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
    return {name: lake.read_table(settings.lake, name) for name in TABLES}


def test_a_sweep_fills_every_table_at_its_grain(settings: Settings, spec: SweepSpec) -> None:
    run_id = flow_module.sweep(spec, settings)
    found = tables(settings)
    measured = {name: frame for name, frame in found.items() if not TABLES[name].is_optional}
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
    assert not doctor(settings.lake)
    summary = views.query(settings.lake, "select * from summary order by level")
    assert summary["level"].to_list() == [0, 1, 3]
    assert summary["comprehensiveness"].null_count() == 0
    assert summary["explained_n"].to_list() == [2, 2, 2]


def test_the_same_spec_again_does_no_model_work(
    settings: Settings, spec: SweepSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = flow_module.sweep(spec, settings)
    before = tables(settings)
    monkeypatch.setattr(flow_module, "load", lambda *_: pytest.fail("the model was loaded"))
    assert flow_module.sweep(spec, settings) == first
    for name, frame in tables(settings).items():
        assert_frame_equal(frame, before[name])


@pytest.mark.parametrize("again", [flow_module.sweep, cli._run], ids=["flow", "command"])
def test_a_run_without_its_analysis_gets_it_from_the_same_spec_again(
    settings: Settings,
    spec: SweepSpec,
    monkeypatch: pytest.MonkeyPatch,
    again: Callable[[SweepSpec, Settings], str],
) -> None:
    run_id = flow_module.sweep(spec, settings)
    expected = lake.read_table(settings.lake, "metrics")
    (settings.lake / "analyses" / f"{run_id}.parquet").unlink()  # as a killed sweep leaves it
    monkeypatch.setattr(flow_module, "load", lambda *_: pytest.fail("the model was loaded"))
    assert lake.unanalysed(settings.lake) == [run_id]
    assert again(spec, settings) == run_id
    assert not doctor(settings.lake)
    assert_frame_equal(lake.read_table(settings.lake, "metrics"), expected)


def test_a_lake_that_cannot_be_written_is_refused_before_any_model_work(
    settings: Settings, spec: SweepSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.lake.touch()
    monkeypatch.setattr(flow_module, "load", lambda *_: pytest.fail("the model was loaded"))
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
    assert not doctor(settings.lake)
    areas = views.query(settings.lake, "from aopc where variant = 'normalised'")
    assert areas.height == 2 * 2 * 2  # levels, kinds, kernel_shap and random
    assert areas["value"].is_between(-0.05, 1.05).all()


def test_a_sweep_that_fails_late_leaves_no_run(
    settings: Settings, spec: SweepSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(stages, "deletion_curves", broken)
    with pytest.raises(RuntimeError, match="out of memory"):
        flow_module.sweep(spec, settings)
    assert not lake.run_ids(settings.lake)


def test_prefect_finds_the_flow_by_the_entrypoint_of_the_deployment() -> None:
    root = Path(__file__).parents[1]
    found: Flow[..., object] = load_flow_from_entrypoint(
        f"{root}/flows/sweep.py:sweep", use_placeholder_flow=False
    )
    assert found.name == "sweep"
