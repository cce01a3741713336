"""An interrupted sweep continues: finished shards are not computed again, damaged ones are."""

from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

from prunelake.lake import commit, partial_runs, read
from prunelake.lake.maintenance.verify import verify_lake
from prunelake.lake.partial_runs import ORDER_SHARD, ComputeCost
from prunelake.models.loading import load_model
from prunelake.settings import Settings
from prunelake.spec import Strategy, SweepSpec
from prunelake.strategies.removal_order import removal_order
from prunelake.sweeps import shards, steps
from prunelake.sweeps.evaluate import shard_work
from prunelake.sweeps.executor import LocalExecutor
from prunelake.sweeps.plan import plan_sweep
from prunelake.sweeps.run import run_sweep
from tests.support.lakes.local_paths import local_path
from tests.support.sweeps import sweep_processes
from tests.support.sweeps.counted_sweep import SHARDS, Counted
from tests.support.sweeps.small_sweep import small_sweep


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(lake=tmp_path / "lake", cache=tmp_path / "cache", device="cpu")


@pytest.fixture
def spec(tiny_folder: Path) -> SweepSpec:
    return small_sweep(tiny_folder)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


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


def test_a_finished_shard_is_not_measured_again(
    settings: Settings, spec: SweepSpec, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray repeats a shard if its worker stored it but died before it reported the result."""
    work = plan_sweep(spec, settings)
    partial_run = partial_runs.PartialRun(settings.lake, work.identity.run_id)
    order = removal_order(load_model(work.source).model, Strategy(name="random"), ())
    whole = shard_work(work, shards.Shard(0, 2))

    def measure() -> ComputeCost:
        return steps.measure_shard(whole, order, settings, partial_run, log=print)

    first = measure()
    monkeypatch.setattr(steps, "cached_model", lambda *_: pytest.fail("loaded"))
    assert measure() == first
    assert counted.shards == ["000000-000002"]


def test_a_run_with_all_shards_finished_is_committed_without_its_model(
    settings: Settings, spec: SweepSpec, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(commit, "write_run", lambda *_: (_ for _ in ()).throw(RuntimeError("killed")))
        with pytest.raises(RuntimeError, match="killed"):
            counted.sweep(spec, settings)
    monkeypatch.setattr(steps, "cached_model", lambda *_: pytest.fail("loaded"))
    run_id = counted.sweep(spec, settings)
    assert read.run_ids(settings.lake) == [run_id]
    assert list((local_path(settings.lake) / ".shards").iterdir()) == []


@pytest.mark.parametrize(
    ("damaged", "table", "again"),
    [
        (SHARDS[1], "predictions", [SHARDS[1]]),
        (ORDER_SHARD, "layers", [ORDER_SHARD, *SHARDS]),
    ],
)
def test_a_damaged_shard_is_computed_again_with_a_warning(
    settings: Settings,
    spec: SweepSpec,
    counted: Counted,
    monkeypatch: pytest.MonkeyPatch,
    damaged: str,
    table: str,
    again: list[str],
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(commit, "write_run", lambda *_: (_ for _ in ()).throw(RuntimeError("killed")))
        with pytest.raises(RuntimeError, match="killed"):
            counted.sweep(spec, settings)
    counted.shards = []
    (path,) = (local_path(settings.lake) / ".shards").glob(f"*/{table}/{damaged}.*.parquet")
    path.write_bytes(b"damaged")
    lines: list[str] = []
    run_sweep(spec, settings, LocalExecutor(lines.append))
    assert counted.shards == again
    assert f"warning: {path} is missing or has changed; {damaged} is computed again" in lines


def test_leftovers_of_a_killed_sweep_are_removed(
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
