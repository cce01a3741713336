"""The keys of evaluations, the runs that count as evaluated, and the quotas of entries."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from prunelake.comparison_spec import ComparisonSpec
from prunelake.errors import CorruptFile
from prunelake.identity import ComparedLevel, ComparisonIdentity, content_hash
from prunelake.lake.commit import write_run
from prunelake.settings import Settings
from prunelake.spec import Calibration, Strategy, SweepSpec
from prunelake.watch.decision import EvaluationState
from prunelake.watch.evaluations import Evaluation, spec_key
from tests.support.lakes.local_paths import local_path
from tests.support.runs.lake_rows import frames, run_row
from tests.support.sweeps.fake_launcher import (
    FakeLauncher,
    model_states,
    run_round,
    saved_model,
    watchlist,
    write_evaluated_run,
)


def test_equal_sweeps_have_the_same_spec_key(tmp_path: Path, settings: Settings) -> None:
    plain = SweepSpec(task="opinions")
    seeded = plain.model_copy(update={"strategy": Strategy(seed=7), "model": "another"})
    assert spec_key(seeded) == spec_key(plain)
    random = plain.model_copy(update={"strategy": Strategy(name="random")})
    assert spec_key(random) != spec_key(plain)
    on_other_text = random.model_copy(update={"calibration": Calibration(windows=3)})
    assert spec_key(on_other_text) == spec_key(random)
    named = [Strategy.model_validate({"name": n}) for n in ("cosine", "iterative", "loss", "last")]
    named += [Strategy(name="divergence"), Strategy(name="divergence", search_rows=9)]
    keys = {spec_key(plain.model_copy(update={"strategy": strategy})) for strategy in named}
    assert len(keys) == len(named)
    assert spec_key(SweepSpec(task="opinions", levels=(4, 2))) == spec_key(
        SweepSpec(task="opinions", levels=(0, 2, 4))
    )
    saved_model(tmp_path / "m")
    worker = FakeLauncher()
    listed = watchlist(tmp_path, {"model": "m", "levels": [2, 4]})
    run_round(listed, settings, worker, is_dry=True)
    worker = FakeLauncher(
        lambda each: write_evaluated_run(
            local_path(settings.lake), each, spec=each.spec.model_dump_json(indent=3)
        )
    )
    run_round(listed, settings, worker)
    assert (
        run_round(watchlist(tmp_path, {"model": "m", "levels": [4, 2, 0]}), settings, worker) == []
    )


def test_imported_runs_do_not_count_as_evaluations(
    tmp_path: Path, settings: Settings, writes: FakeLauncher
) -> None:
    identity = {"kind": "import", "log": "samples.jsonl"}
    row = run_row("imported", identity=json.dumps(identity), run_id=content_hash(identity)[:16])
    write_run(local_path(settings.lake), row | {"spec": '{"source": "a log"}'}, frames())
    saved_model(tmp_path / "m")
    listed = watchlist(tmp_path, {"model": "m"})
    assert model_states(run_round(listed, settings, writes)) == [("m", "evaluated")]


def test_the_error_names_a_run_without_the_spec_of_a_sweep(
    tmp_path: Path, settings: Settings
) -> None:
    row = run_row("broken", spec='{"colour": "red"}')
    write_run(local_path(settings.lake), row, frames())
    listed = watchlist(tmp_path, {"model": str(saved_model(tmp_path / "m"))})
    with pytest.raises(CorruptFile, match=f"run {row['run_id']} .* not that of a sweep or"):
        run_round(listed, settings, FakeLauncher())


def test_quotas_limit_a_round_a_day_and_the_size(tmp_path: Path, settings: Settings) -> None:
    for n in range(5):
        saved_model(tmp_path / "models" / str(n), str(n))
    saved_model(tmp_path / "models" / "large", "x" * 2000)
    budget = {"runs_per_round": 2, "runs_per_day": 3, "max_model_gb": 1e-6}
    listed = watchlist(tmp_path, {"folder": "models"}, budget=budget)
    worker = FakeLauncher(
        lambda each: write_evaluated_run(
            local_path(settings.lake), each, created_at=datetime.now(UTC)
        )
    )
    lines = run_round(listed, settings, worker)
    assert {line.detail for line in lines if line.state is EvaluationState.waiting} == {
        "the entry's budget is 2 runs a round"
    }
    (large,) = [line for line in lines if line.state is EvaluationState.skipped]
    assert large.detail == "its weights are 2e-06 GB, the entry allows 1e-06 GB"
    lines = run_round(listed, settings, worker)
    assert worker.models == ["0", "1", "2"]
    assert {line.detail for line in lines if line.state is EvaluationState.waiting} == {
        "the entry's budget is 3 runs a day"
    }


def write_comparison(lake: Path, evaluation: Evaluation) -> None:
    """Write the runs that the comparison of this evaluation would write."""
    spec = evaluation.spec
    assert isinstance(spec, ComparisonSpec)
    compared = []
    for level, revision in enumerate(
        (evaluation.baseline_revision, evaluation.model_revision.revision)
    ):
        sweep = spec.sweep_spec(level)
        row = run_row(f"{sweep.model} {revision}", revision=revision, spec=sweep.model_dump_json())
        write_run(lake, row, frames())
        label = spec.variants[level].name
        compared.append(ComparedLevel(label=label, run_id=row["run_id"], level=0))
    identity = ComparisonIdentity(format_version=3, compared=tuple(compared), explain=None)
    columns = {"run_id": identity.run_id, "identity": identity.model_dump_json()}
    row = run_row("comparison", **columns, spec=spec.model_dump_json(), strategy="comparison")
    write_run(lake, row, frames())


def test_each_model_of_an_entry_is_compared_with_its_baseline_once(
    tmp_path: Path, settings: Settings
) -> None:
    baseline = saved_model(tmp_path / "base", "base")
    saved_model(tmp_path / "quantised" / "q8", "q8")
    saved_model(tmp_path / "quantised" / "q4", "q4")
    listed = watchlist(tmp_path, {"folder": "quantised", "baseline": "full=base"})
    lake = local_path(settings.lake)
    worker = FakeLauncher(lambda each: write_comparison(lake, each))
    lines = run_round(listed, settings, worker)
    assert [(Path(line.model).name, line.strategy) for line in lines] == [
        ("q4", "against full"),
        ("q8", "against full"),
    ]
    specs = [each.spec for each in worker.started]
    assert all(isinstance(spec, ComparisonSpec) for spec in specs)
    assert {spec.baseline.model for spec in specs if isinstance(spec, ComparisonSpec)} == {
        str(baseline)
    }
    assert run_round(listed, settings, FakeLauncher()) == []
    # A changed candidate is compared again; a changed baseline concerns all candidates.
    saved_model(tmp_path / "quantised" / "q4", "q4, better")
    (line,) = run_round(listed, settings, worker)
    assert Path(line.model).name == "q4"
    saved_model(tmp_path / "base", "base, better")
    assert len(run_round(listed, settings, FakeLauncher(), is_dry=True)) == 2


def test_a_comparison_of_several_candidates_is_no_evaluation(
    tmp_path: Path, settings: Settings
) -> None:
    spec = ComparisonSpec.model_validate(
        {"baseline": "b", "candidates": ["m", "n"], "task": "opinions"}
    )
    identity = ComparisonIdentity(format_version=3, compared=(), explain=None)
    columns = {"run_id": identity.run_id, "identity": identity.model_dump_json()}
    row = run_row("comparison", **columns, spec=spec.model_dump_json())
    write_run(local_path(settings.lake), row, frames())
    saved_model(tmp_path / "m")
    saved_model(tmp_path / "b")
    listed = watchlist(tmp_path, {"model": "m", "baseline": "b"})
    assert len(run_round(listed, settings, FakeLauncher(), is_dry=True)) == 1
