"""Rounds of `watch` over models that are only files, with a fake launcher."""

import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from prunelake.errors import PrefectUnavailable
from prunelake.lake import attempt_log
from prunelake.settings import Settings
from prunelake.watch.decision import EvaluationState
from prunelake.watch.evaluations import Evaluation
from prunelake.watch.launcher import AttemptOutcome, LocalLauncher
from prunelake.watch.status import STATUS_FOLDER
from tests.support.lakes.interruptions import Interrupted
from tests.support.lakes.local_paths import local_path
from tests.support.sweeps.fake_launcher import (
    FakeLauncher,
    change_attempt,
    model_states,
    run_round,
    saved_model,
    watchlist,
    write_evaluated_run,
)

PAST = datetime.now(UTC) - timedelta(days=3)


def fails(*names: str) -> Callable[[Evaluation], None]:
    """Work that raises for these models."""

    def work(evaluation: Evaluation) -> None:
        if Path(evaluation.model_revision.model).name in names:
            raise RuntimeError("out of memory")

    return work


def modification_times(folder: Path) -> dict[str, float]:
    """Without the status of the last round, which each round replaces."""
    paths = [path for path in folder.rglob("*") if STATUS_FOLDER not in str(path)]
    return {str(path): path.stat().st_mtime for path in paths if path != folder}


def test_only_evaluations_that_the_lake_lacks_are_started(
    tmp_path: Path, settings: Settings, writes: FakeLauncher
) -> None:
    for name in ("a", "b"):
        saved_model(tmp_path / "models" / name, name)
    listed = watchlist(tmp_path, {"folder": "models", "strategies": ["cosine", "random:3"]})
    assert model_states(run_round(listed, settings, writes)) == [
        (n, "evaluated") for n in ("a", "a", "b", "b")
    ]
    saved_model(tmp_path / "models" / "deep" / "checkpoint-7", "c")
    assert model_states(run_round(listed, settings, writes)) == [("checkpoint-7", "evaluated")] * 2
    assert run_round(listed, settings, writes) == []
    assert len(writes.started) == 6


def test_a_new_revision_of_a_known_model_is_a_new_evaluation(
    tmp_path: Path, settings: Settings, writes: FakeLauncher
) -> None:
    saved_model(tmp_path / "m", "first")
    listed = watchlist(tmp_path, {"model": "m"})
    run_round(listed, settings, writes)
    saved_model(tmp_path / "m", "second")
    run_round(listed, settings, writes)
    first, second = writes.started
    assert first.spec == second.spec
    assert first.model_revision.revision != second.model_revision.revision
    assert run_round(listed, settings, writes) == []


def test_a_sweep_that_finds_its_run_under_another_spec_is_not_started_again(
    tmp_path: Path, settings: Settings
) -> None:
    saved_model(tmp_path / "m")
    listed = watchlist(tmp_path, {"model": "m"})
    # These are the default levels of this model, which only a sweep can know.
    worker = FakeLauncher(
        lambda each: write_evaluated_run(
            local_path(settings.lake),
            each,
            spec=each.spec.model_copy(update={"levels": (0, 1)}).model_dump_json(),
        )
    )
    assert model_states(run_round(listed, settings, worker)) == [("m", "evaluated")]
    assert run_round(listed, settings, worker) == []
    for file in local_path(settings.lake).glob("runs/*"):
        file.unlink()
    assert model_states(run_round(listed, settings, worker)) == [("m", "evaluated")]


def test_several_watchers_at_once_start_each_evaluation_once(
    tmp_path: Path, settings: Settings
) -> None:
    for n in range(5):
        saved_model(tmp_path / "models" / str(n), str(n))
    listed = watchlist(tmp_path, {"folder": "models"}, budget={"runs_per_round": 9})
    together = threading.Barrier(4)
    workers = [FakeLauncher(flow_run="1") for _ in range(4)]

    def run(worker: FakeLauncher) -> None:
        together.wait()
        run_round(listed, settings, worker)

    threads = [threading.Thread(target=run, args=[worker]) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    started = [model for worker in workers for model in worker.models]
    assert sorted(started) == ["0", "1", "2", "3", "4"]


def test_the_sweeps_of_one_model_start_together_unless_they_failed_before(
    tmp_path: Path, settings: Settings
) -> None:
    for name in ("a", "b"):
        saved_model(tmp_path / "models" / name, name)
    strategies = ["cosine", "random:1", "random:2"]
    listed = watchlist(
        tmp_path, {"folder": "models", "strategies": strategies}, budget={"runs_per_round": 9}
    )
    together = FakeLauncher(fails("a"), flow_run="f", largest_group=2)
    lines = run_round(listed, settings, together)
    assert together.groups == [2, 1, 2, 1]
    assert model_states(lines) == [("a", "failed")] * 3 + [("b", "started")] * 3
    alone = FakeLauncher(flow_run="g", largest_group=2)
    for attempt in attempt_log.read_attempts(settings.lake).values():
        if attempt.state == "failed":
            now = attempt.model_copy(update={"retry_at": PAST})
            assert attempt_log.compare_and_swap(settings.lake, attempt, now)
    run_round(listed, settings, alone)
    assert alone.groups == [1, 1, 1]


def test_an_evaluation_that_another_process_wrote_during_the_round_is_not_started(
    tmp_path: Path, settings: Settings
) -> None:
    for name in ("a", "b"):
        saved_model(tmp_path / "models" / name, name)
    listed = watchlist(tmp_path, {"folder": "models"})
    both: list[Evaluation] = []
    run_round(listed, settings, FakeLauncher(both.append, flow_run="1"), is_dry=False)
    for attempt in attempt_log.read_attempts(settings.lake).values():
        attempt_log.compare_and_swap(settings.lake, attempt, None)
    worker = FakeLauncher(
        lambda _: [write_evaluated_run(local_path(settings.lake), each) for each in both]
    )
    assert model_states(run_round(listed, settings, worker)) == [("a", "evaluated")]
    assert worker.models == ["a"]
    assert attempt_log.read_attempts(settings.lake) == {}


def test_a_failing_model_is_retried_with_delays_then_parked_and_blocks_no_other(
    tmp_path: Path, settings: Settings
) -> None:
    for name in ("bad", "good"):
        saved_model(tmp_path / "models" / name, name)
    listed = watchlist(tmp_path, {"folder": "models"}, budget={"runs_per_round": 1})
    worker = FakeLauncher(fails("bad"))
    (waiting, line) = run_round(listed, settings, worker)
    assert (line.state, waiting.state) == (EvaluationState.failed, EvaluationState.waiting)
    assert line.detail.startswith("RuntimeError: out of memory (next ")
    # The failed model waits, so that the other model gets the budget.
    assert model_states(run_round(listed, settings, worker)) == [
        ("bad", "waiting"),
        ("good", "evaluated"),
    ]
    pauses = []
    listed = watchlist(tmp_path, {"model": "models/bad"}, budget={"runs_per_day": 99})
    for file in (local_path(settings.lake) / ".watch").glob("*.json"):
        file.unlink()
    for _ in range(4):
        run_round(listed, settings, worker)
        (attempt,) = attempt_log.read_attempts(settings.lake).values()
        assert attempt.retry_at
        pauses.append(round((attempt.retry_at - datetime.now(UTC)) / timedelta(hours=1)))
        assert model_states(run_round(listed, settings, worker)) == [("bad", "waiting")]
        change_attempt(local_path(settings.lake), retry_at=PAST)
    assert pauses == [1, 2, 4, 8]
    (line,) = run_round(listed, settings, worker)
    assert line.detail.endswith("(parked)")
    (line,) = run_round(listed, settings, worker)
    assert line.state is EvaluationState.parked
    assert line.detail == "5 attempts failed, the last with: RuntimeError: out of memory"
    assert worker.models == ["bad", "good", *["bad"] * 5]


@pytest.mark.parametrize("change", ["revision", "entry", "retry"])
def test_a_parked_evaluation_is_tried_again_after_a_change_or_with_retry(
    change: str, tmp_path: Path, settings: Settings
) -> None:
    saved_model(tmp_path / "m")
    worker = FakeLauncher(fails("m"))
    listed = watchlist(tmp_path, {"model": "m"})
    run_round(listed, settings, worker)
    change_attempt(local_path(settings.lake), number=5, retry_at=None)
    assert model_states(run_round(listed, settings, worker)) == [("m", "parked")]
    if change == "revision":
        saved_model(tmp_path / "m", "others")
    if change == "entry":
        listed = watchlist(tmp_path, {"model": "m", "dtype": "bfloat16"})
    assert model_states(run_round(listed, settings, worker, is_retry=change == "retry")) == [
        ("m", "failed")
    ]
    (attempt,) = attempt_log.read_attempts(settings.lake).values()
    assert attempt.number == (6 if change == "retry" else 1)  # a retry keeps the count


def test_a_flow_run_is_in_flight_until_its_outcome_is_known(
    tmp_path: Path, settings: Settings
) -> None:
    saved_model(tmp_path / "m")
    listed = watchlist(tmp_path, {"model": "m"})
    worker = FakeLauncher(flow_run="f1")
    assert model_states(run_round(listed, settings, worker)) == [("m", "started")]
    assert model_states(run_round(listed, settings, worker)) == [("m", "in flight")]
    worker.ends["m"] = AttemptOutcome(False, "flow run x crashed")
    (line,) = run_round(listed, settings, worker)
    assert line.state is EvaluationState.waiting
    assert "attempt 1 failed: flow run x crashed" in line.detail
    change_attempt(local_path(settings.lake), retry_at=PAST)
    assert model_states(run_round(listed, settings, worker)) == [("m", "started")]
    worker.ends["m"] = AttemptOutcome(True, "flow run x completed")
    (line,) = run_round(listed, settings, worker)
    assert "not in this lake" in line.detail
    write_evaluated_run(local_path(settings.lake), worker.started[0])
    assert run_round(listed, settings, worker) == []
    assert attempt_log.read_attempts(settings.lake) == {}
    assert len({attempt.idempotency_key for attempt in worker.attempts}) == 2


def test_an_attempt_without_heartbeats_is_resumed_at_once(
    tmp_path: Path, settings: Settings
) -> None:
    saved_model(tmp_path / "m")
    listed = watchlist(tmp_path, {"model": "m"})

    def killed(_: Evaluation) -> None:
        raise Interrupted  # like a kill: nothing more is written

    with pytest.raises(Interrupted):
        run_round(listed, settings, FakeLauncher(killed))
    resumed: list[Evaluation] = []
    here = LocalLauncher(resumed.append)
    assert model_states(run_round(listed, settings, here)) == [("m", "in flight")]  # type: ignore[arg-type]  # not a FakeLauncher
    assert resumed == []
    (attempt,) = attempt_log.read_attempts(settings.lake).values()
    change_attempt(local_path(settings.lake), started_at=PAST)
    old = PAST.timestamp()
    os.utime(local_path(settings.lake) / ".watch" / f"{attempt.key}.json", (old, old))
    (line,) = run_round(listed, settings, here)  # type: ignore[arg-type]  # not a FakeLauncher
    assert line.state is EvaluationState.evaluated
    assert [evaluation.key for evaluation in resumed] == [attempt.key]


def test_stopping_a_watch_by_keyboard_is_not_a_failure(tmp_path: Path, settings: Settings) -> None:
    saved_model(tmp_path / "m")

    def stopped(_: Evaluation) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_round(watchlist(tmp_path, {"model": "m"}), settings, FakeLauncher(stopped))
    assert attempt_log.read_attempts(settings.lake) == {}


def test_a_claim_stays_if_the_server_does_not_answer(tmp_path: Path, settings: Settings) -> None:
    saved_model(tmp_path / "m")

    def lost(_: Evaluation) -> None:
        raise PrefectUnavailable("gone")

    listed, worker = watchlist(tmp_path, {"model": "m"}), FakeLauncher(lost)
    with pytest.raises(PrefectUnavailable):
        run_round(listed, settings, worker)
    assert model_states(run_round(listed, settings, worker)) == [("m", "in flight")]
    assert len(worker.started) == 1


def test_rounds_without_work_and_dry_rounds_change_no_file(
    tmp_path: Path, settings: Settings, writes: FakeLauncher
) -> None:
    saved_model(tmp_path / "m")
    listed = watchlist(tmp_path, {"model": "m"})
    assert model_states(run_round(listed, settings, writes, is_dry=True)) == [("m", "missing")]
    assert not settings.lake.is_dir()
    run_round(listed, settings, writes)
    before = modification_times(local_path(settings.lake))
    for _ in range(5):
        assert run_round(listed, settings, writes) == []
    assert modification_times(local_path(settings.lake)) == before
    saved_model(tmp_path / "m", "new")
    assert model_states(run_round(listed, settings, writes, is_dry=True)) == [("m", "missing")]
    assert modification_times(local_path(settings.lake)) == before


def test_attempts_at_unwanted_evaluations_are_dropped(tmp_path: Path, settings: Settings) -> None:
    for name in ("a", "b"):
        saved_model(tmp_path / name, name)
    worker = FakeLauncher(fails("a", "b"))
    run_round(watchlist(tmp_path, {"model": "a"}, {"model": "b"}), settings, worker)
    assert len(attempt_log.read_attempts(settings.lake)) == 2
    # An entry whose models cannot be found now keeps its attempts.
    (tmp_path / "b" / "config.json").unlink()
    run_round(watchlist(tmp_path, {"model": "b"}), settings, worker)
    assert [attempt.entry for attempt in attempt_log.read_attempts(settings.lake).values()] == [
        f"model {tmp_path / 'b'}"
    ]
