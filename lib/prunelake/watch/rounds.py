"""One round of `watch`: start what the watchlist asks for and the lake lacks, and say why not."""

import threading
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from prunelake.errors import (
    HubUnreachable,
    LakeError,
    ModelError,
    PrefectUnavailable,
    PruneLakeError,
    one_line,
)
from prunelake.lake import attempt_log
from prunelake.lake.attempt_log import Attempt
from prunelake.lake.storage import Location
from prunelake.settings import Settings
from prunelake.watch import revisions
from prunelake.watch.evaluations import Evaluation, LakeIndex, RunQuotaUse
from prunelake.watch.launcher import HEARTBEAT_TIMEOUT, Launcher
from prunelake.watch.watchlist import Watchlist

FIRST_RETRY_DELAY = timedelta(hours=1)  # then twice as long each time
MAX_ATTEMPTS = 5  # that fail before an evaluation is parked


class EvaluationState(StrEnum):
    """What a round says of an evaluation, a model or an entry."""

    missing = "missing"  # would be started: only a dry run says so
    started = "started"
    evaluated = "evaluated"
    in_flight = "in flight"
    failed = "failed"
    waiting = "waiting"
    parked = "parked"
    skipped = "skipped"
    unreachable = "hub not reached"


@dataclass(frozen=True)
class RoundLine:
    """One line of what a round says; `task` and `strategy` are empty where all are meant."""

    model: str
    task: str
    strategy: str
    state: EvaluationState
    detail: str = ""


class WatchRound:
    """One round over a watchlist.

    `is_retry` tries at once what failed or is parked. A dry run changes nothing.
    """

    def __init__(
        self,
        watchlist: Watchlist,
        settings: Settings,
        starter: Launcher,
        *,
        is_retry: bool = False,
        is_dry: bool = False,
    ) -> None:
        self._watchlist = watchlist
        self._lake = settings.lake
        self._cache = settings.cache.expanduser()
        self._starter = starter
        self._is_retry = is_retry
        self._is_dry = is_dry
        self._lines: list[RoundLine] = []
        self._unresolved: set[str] = set()  # labels of entries not looked up in whole

    def run(self) -> list[RoundLine]:
        """Start what may start; a line for everything that is not in the lake.

        Raises:
            PrefectUnavailable: as `Starter.start`; what was not started comes next round.
            LakeError, CorruptFile: a lake that cannot be read, or not be written.
        """
        wanted = self._wanted_evaluations()
        self._held = LakeIndex(self._lake)
        attempts = attempt_log.read_attempts(self._lake)
        allowance = RunQuotaUse(self._held, attempts.values(), wanted.values(), datetime.now(UTC))
        judged = [self._pending_evaluation(each, attempts.get(key)) for key, each in wanted.items()]
        self._drop_unwanted({k: a for k, a in attempts.items() if k not in wanted})
        # What fails again and again must not take the budget of what was never tried.
        for open_ in sorted(filter(None, judged), key=lambda open_: open_.failures):
            refusal = allowance.refusal(open_.evaluation)
            if refusal is not None:
                self._add_line(open_.evaluation, EvaluationState.waiting, refusal)
                continue
            allowance.record_start(open_.evaluation)
            if self._is_dry:
                self._add_line(open_.evaluation, EvaluationState.missing)
            else:
                self._start(open_)
        return self._lines

    def _wanted_evaluations(self) -> dict[str, Evaluation]:
        """What the watchlist asks for now, by key."""
        wanted: dict[str, Evaluation] = {}
        down: HubUnreachable | None = None
        for entry in self._watchlist.entries:
            try:
                if down is not None and entry.needs_hub:
                    raise down  # one wait for an answer a round is enough
                for found in revisions.find_revisions(entry, self._cache):
                    if isinstance(found, revisions.SkippedModel):
                        self._unresolved.add(entry.label)
                        self._lines.append(
                            RoundLine(found.model, "", "", EvaluationState.skipped, found.reason)
                        )
                        continue
                    for spec in entry.sweep_specs(found.model):
                        evaluation = Evaluation(entry, found, spec)
                        wanted.setdefault(evaluation.key, evaluation)
            except HubUnreachable as error:
                down = error
                self._unresolved.add(entry.label)
                self._lines.append(
                    RoundLine(entry.label, "", "", EvaluationState.unreachable, str(error))
                )
            except ModelError as error:
                self._unresolved.add(entry.label)
                self._lines.append(
                    RoundLine(entry.label, "", "", EvaluationState.skipped, str(error))
                )
        return wanted

    def _pending_evaluation(
        self, evaluation: Evaluation, attempt: Attempt | None
    ) -> "_PendingEvaluation | None":
        """An evaluation that may start, if it may; says why where it may not."""
        if self._held.has(evaluation):
            if attempt is not None:
                self._swap(attempt, None)
            return None
        if attempt is None:
            return _PendingEvaluation(evaluation, None, 0)
        if attempt.state == "same":
            # The run that it was the same as may have been deleted.
            is_held = self._held.has_task(evaluation)
            return None if is_held else _PendingEvaluation(evaluation, attempt, 0)
        if attempt.state == "running":
            end = self._starter.outcome(attempt, attempt_log.last_heartbeat(self._lake, attempt))
            if end is None:
                who = f"flow run {attempt.flow_run}" if attempt.flow_run else "a process"
                self._add_line(
                    evaluation,
                    EvaluationState.in_flight,
                    f"{who} since {format_time(attempt.started_at)}",
                )
                return None
            self._held.refresh()  # it may have ended since the lake was read
            if end.is_success and self._held.has_task(evaluation):
                new = (
                    None if self._held.has(evaluation) else _updated_attempt(attempt, state="same")
                )
                self._swap(attempt, new)
                return None
            reason = end.reason
            if end.is_success:
                reason += ", but its run is not in this lake: do the workers use another one?"
            failed = _failed_attempt(attempt, reason)
            if not self._swap(attempt, failed):
                self._add_line(
                    evaluation, EvaluationState.in_flight, "another watcher has just looked at it"
                )
                return None
            attempt = failed
        if self._is_retry:
            return _PendingEvaluation(evaluation, attempt, 0)
        if attempt.retry_at is None:
            tried = f"{attempt.number} attempts failed, the last one: {attempt.reason}"
            self._add_line(evaluation, EvaluationState.parked, tried)
            return None
        if datetime.now(UTC) < attempt.retry_at:
            until = f"until {format_time(attempt.retry_at)}, attempt {attempt.number} failed: "
            self._add_line(evaluation, EvaluationState.waiting, f"{until}{attempt.reason}")
            return None
        return _PendingEvaluation(evaluation, attempt, attempt.number)

    def _drop_unwanted(self, unwanted: dict[str, Attempt]) -> None:
        """Drop attempts at what this watchlist asks for no more: old revisions, old specs."""
        for attempt in unwanted.values():
            is_own = attempt.watchlist == str(self._watchlist.path.absolute())
            if not is_own or attempt.entry in self._unresolved:
                continue
            if attempt.state == "running":
                alive_at = attempt_log.last_heartbeat(self._lake, attempt)
                if self._starter.outcome(attempt, alive_at) is None:
                    continue
            self._swap(attempt, None)

    def _start(self, open_: "_PendingEvaluation") -> None:
        evaluation, before = open_.evaluation, open_.before
        claim = Attempt(
            key=evaluation.key,
            watchlist=str(self._watchlist.path.absolute()),
            entry=evaluation.entry.label,
            model=evaluation.model_revision.model,
            revision=evaluation.model_revision.revision,
            task=evaluation.spec.task_name,
            strategy=evaluation.spec.strategy.label,
            state="running",
            number=open_.failures + 1,
            nonce=uuid.uuid4().hex[:8],
            started_at=datetime.now(UTC),
        )
        if not self._swap(before, claim):
            self._add_line(
                evaluation, EvaluationState.in_flight, "another watcher has just started it"
            )
            return
        self._held.refresh()
        if self._held.has(evaluation):  # another has computed it since this round began
            self._swap(claim, None)
            return
        try:
            with _heartbeat(self._lake, claim):
                flow_run = self._starter.start(evaluation, claim)
        except PrefectUnavailable:
            raise  # the claim stays: whether it was handed over is not known
        except KeyboardInterrupt:
            self._swap(claim, before)  # stopped by its user: that is no failure
            raise
        except Exception as error:  # whatever a sweep may raise: the others go on
            reason = str(error) if isinstance(error, PruneLakeError) else one_line(error)
            failed = _failed_attempt(claim, reason)
            self._swap(claim, failed)
            then = "parked" if failed.retry_at is None else f"next {format_time(failed.retry_at)}"
            self._add_line(evaluation, EvaluationState.failed, f"{reason} ({then})")
            return
        if flow_run is not None:
            self._swap(claim, _updated_attempt(claim, flow_run=flow_run))
            self._add_line(evaluation, EvaluationState.started, f"flow run {flow_run}")
            return
        self._held.refresh()
        self._swap(
            claim, None if self._held.has(evaluation) else _updated_attempt(claim, state="same")
        )
        self._add_line(evaluation, EvaluationState.evaluated)

    def _swap(self, old: Attempt | None, new: Attempt | None) -> bool:
        return self._is_dry or attempt_log.compare_and_swap(self._lake, old, new)

    def _add_line(self, evaluation: Evaluation, state: EvaluationState, detail: str = "") -> None:
        spec = evaluation.spec
        line = RoundLine(
            evaluation.model_revision.model, spec.task_name, spec.strategy.label, state, detail
        )
        self._lines.append(line)


@dataclass(frozen=True)
class _PendingEvaluation:
    """An evaluation that may start, what its claim replaces, and how often it has failed."""

    evaluation: Evaluation
    before: Attempt | None
    failures: int


def summary(lines: Sequence[RoundLine]) -> str:
    """A round in a few words."""
    counts = Counter(line.state for line in lines)
    said = ", ".join(f"{counts[state]} {state}" for state in EvaluationState if counts[state])
    return said or "everything on the watchlist is in the lake"


def format_time(at: datetime) -> str:
    """A time as this machine's people read it."""
    return f"{at.astimezone():%d %b %H:%M}"


@contextmanager
def _heartbeat(lake: Location, attempt: Attempt) -> Iterator[None]:
    """Show life from a thread: a sweep takes hours, and one that dies shows none."""
    is_over = threading.Event()

    def show() -> None:
        while not is_over.wait(HEARTBEAT_TIMEOUT.total_seconds() / 10):
            with suppress(OSError, LakeError):
                attempt_log.send_heartbeat(lake, attempt)

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _failed_attempt(attempt: Attempt, reason: str) -> Attempt:
    pause = FIRST_RETRY_DELAY * 2 ** (attempt.number - 1)
    retry_at = datetime.now(UTC) + pause if attempt.number < MAX_ATTEMPTS else None
    return _updated_attempt(attempt, state="failed", reason=reason, retry_at=retry_at)


def _updated_attempt(attempt: Attempt, **changes: Any) -> Attempt:
    return attempt.model_copy(update=changes)
