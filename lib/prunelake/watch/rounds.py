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
    NoServer,
    PruneLakeError,
    one_line,
)
from prunelake.lake import attempt_log
from prunelake.lake.attempt_log import Attempt
from prunelake.lake.storage import Location
from prunelake.settings import Settings
from prunelake.watch import revisions
from prunelake.watch.evaluations import Allowance, Evaluation, Held
from prunelake.watch.launcher import SILENCE, Starter
from prunelake.watch.watchlist import Watchlist

FIRST_RETRY = timedelta(hours=1)  # then twice as long each time
ATTEMPTS = 5  # that fail before an evaluation is parked


class State(StrEnum):
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
class Line:
    """One line of what a round says; `task` and `strategy` are empty where all are meant."""

    model: str
    task: str
    strategy: str
    state: State
    detail: str = ""


class Round:
    """One round over a watchlist.

    `is_retry` tries at once what failed or is parked. A dry run changes nothing.
    """

    def __init__(
        self,
        watchlist: Watchlist,
        settings: Settings,
        starter: Starter,
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
        self._lines: list[Line] = []
        self._unresolved: set[str] = set()  # labels of entries not looked up in whole

    def run(self) -> list[Line]:
        """Start what may start; a line for everything that is not in the lake.

        Raises:
            NoServer: as `Starter.start`; what was not started comes next round.
            LakeError, CorruptFile: a lake that cannot be read, or not be written.
        """
        wanted = self._look_up()
        self._held = Held(self._lake)
        attempts = attempt_log.read(self._lake)
        allowance = Allowance(self._held, attempts.values(), wanted.values(), datetime.now(UTC))
        judged = [self._judge(each, attempts.get(key)) for key, each in wanted.items()]
        self._forget({k: a for k, a in attempts.items() if k not in wanted})
        # What fails again and again must not take the budget of what was never tried.
        for open_ in sorted(filter(None, judged), key=lambda open_: open_.failures):
            refusal = allowance.refusal(open_.evaluation)
            if refusal is not None:
                self._say(open_.evaluation, State.waiting, refusal)
                continue
            allowance.take(open_.evaluation)
            if self._is_dry:
                self._say(open_.evaluation, State.missing)
            else:
                self._start(open_)
        return self._lines

    def _look_up(self) -> dict[str, Evaluation]:
        """What the watchlist asks for now, by key."""
        wanted: dict[str, Evaluation] = {}
        down: HubUnreachable | None = None
        for entry in self._watchlist.entries:
            try:
                if down is not None and entry.asks_hub:
                    raise down  # one wait for an answer a round is enough
                for found in revisions.find(entry, self._cache):
                    if isinstance(found, revisions.Skipped):
                        self._unresolved.add(entry.label)
                        self._lines.append(Line(found.model, "", "", State.skipped, found.reason))
                        continue
                    for spec in entry.specs(found.model):
                        evaluation = Evaluation(entry, found, spec)
                        wanted.setdefault(evaluation.key, evaluation)
            except HubUnreachable as error:
                down = error
                self._unresolved.add(entry.label)
                self._lines.append(Line(entry.label, "", "", State.unreachable, str(error)))
            except ModelError as error:
                self._unresolved.add(entry.label)
                self._lines.append(Line(entry.label, "", "", State.skipped, str(error)))
        return wanted

    def _judge(self, evaluation: Evaluation, attempt: Attempt | None) -> "_Open | None":
        """An evaluation that may start, if it may; says why where it may not."""
        if self._held.has(evaluation):
            if attempt is not None:
                self._swap(attempt, None)
            return None
        if attempt is None:
            return _Open(evaluation, None, 0)
        if attempt.state == "same":
            # The run that it was the same as may have been deleted.
            is_held = self._held.has_task(evaluation)
            return None if is_held else _Open(evaluation, attempt, 0)
        if attempt.state == "running":
            end = self._starter.end(attempt, attempt_log.alive_at(self._lake, attempt))
            if end is None:
                who = f"flow run {attempt.flow_run}" if attempt.flow_run else "a process"
                self._say(evaluation, State.in_flight, f"{who} since {moment(attempt.started_at)}")
                return None
            self._held.refresh()  # it may have ended since the lake was read
            if end.is_success and self._held.has_task(evaluation):
                new = None if self._held.has(evaluation) else _changed(attempt, state="same")
                self._swap(attempt, new)
                return None
            reason = end.reason
            if end.is_success:
                reason += ", but its run is not in this lake: do the workers use another one?"
            failed = _failure(attempt, reason)
            if not self._swap(attempt, failed):
                self._say(evaluation, State.in_flight, "another watcher has just looked at it")
                return None
            attempt = failed
        if self._is_retry:
            return _Open(evaluation, attempt, 0)
        if attempt.retry_at is None:
            tried = f"{attempt.number} attempts failed, the last one: {attempt.reason}"
            self._say(evaluation, State.parked, tried)
            return None
        if datetime.now(UTC) < attempt.retry_at:
            until = f"until {moment(attempt.retry_at)}, attempt {attempt.number} failed: "
            self._say(evaluation, State.waiting, f"{until}{attempt.reason}")
            return None
        return _Open(evaluation, attempt, attempt.number)

    def _forget(self, unwanted: dict[str, Attempt]) -> None:
        """Drop attempts at what this watchlist asks for no more: old revisions, old specs."""
        for attempt in unwanted.values():
            is_own = attempt.watchlist == str(self._watchlist.path.absolute())
            if not is_own or attempt.entry in self._unresolved:
                continue
            if attempt.state == "running":
                alive_at = attempt_log.alive_at(self._lake, attempt)
                if self._starter.end(attempt, alive_at) is None:
                    continue
            self._swap(attempt, None)

    def _start(self, open_: "_Open") -> None:
        evaluation, before = open_.evaluation, open_.before
        claim = Attempt(
            key=evaluation.key,
            watchlist=str(self._watchlist.path.absolute()),
            entry=evaluation.entry.label,
            model=evaluation.found.model,
            revision=evaluation.found.revision,
            task=evaluation.spec.task_name,
            strategy=evaluation.spec.strategy.label,
            state="running",
            number=open_.failures + 1,
            nonce=uuid.uuid4().hex[:8],
            started_at=datetime.now(UTC),
        )
        if not self._swap(before, claim):
            self._say(evaluation, State.in_flight, "another watcher has just started it")
            return
        self._held.refresh()
        if self._held.has(evaluation):  # another has computed it since this round began
            self._swap(claim, None)
            return
        try:
            with _showing_life(self._lake, claim):
                flow_run = self._starter.start(evaluation, claim)
        except NoServer:
            raise  # the claim stays: whether it was handed over is not known
        except KeyboardInterrupt:
            self._swap(claim, before)  # stopped by its user: that is no failure
            raise
        except Exception as error:  # whatever a sweep may raise: the others go on
            reason = str(error) if isinstance(error, PruneLakeError) else one_line(error)
            failed = _failure(claim, reason)
            self._swap(claim, failed)
            then = "parked" if failed.retry_at is None else f"next {moment(failed.retry_at)}"
            self._say(evaluation, State.failed, f"{reason} ({then})")
            return
        if flow_run is not None:
            self._swap(claim, _changed(claim, flow_run=flow_run))
            self._say(evaluation, State.started, f"flow run {flow_run}")
            return
        self._held.refresh()
        self._swap(claim, None if self._held.has(evaluation) else _changed(claim, state="same"))
        self._say(evaluation, State.evaluated)

    def _swap(self, old: Attempt | None, new: Attempt | None) -> bool:
        return self._is_dry or attempt_log.swap(self._lake, old, new)

    def _say(self, evaluation: Evaluation, state: State, detail: str = "") -> None:
        spec = evaluation.spec
        line = Line(evaluation.found.model, spec.task_name, spec.strategy.label, state, detail)
        self._lines.append(line)


@dataclass(frozen=True)
class _Open:
    """An evaluation that may start, what its claim replaces, and how often it has failed."""

    evaluation: Evaluation
    before: Attempt | None
    failures: int


def told(lines: Sequence[Line]) -> str:
    """A round in a few words."""
    counts = Counter(line.state for line in lines)
    said = ", ".join(f"{counts[state]} {state}" for state in State if counts[state])
    return said or "everything on the watchlist is in the lake"


def moment(at: datetime) -> str:
    """A time as this machine's people read it."""
    return f"{at.astimezone():%d %b %H:%M}"


@contextmanager
def _showing_life(lake: Location, attempt: Attempt) -> Iterator[None]:
    """Show life from a thread: a sweep takes hours, and one that dies shows none."""
    is_over = threading.Event()

    def show() -> None:
        while not is_over.wait(SILENCE.total_seconds() / 10):
            with suppress(OSError, LakeError):
                attempt_log.show_life(lake, attempt)

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _failure(attempt: Attempt, reason: str) -> Attempt:
    pause = FIRST_RETRY * 2 ** (attempt.number - 1)
    retry_at = datetime.now(UTC) + pause if attempt.number < ATTEMPTS else None
    return _changed(attempt, state="failed", reason=reason, retry_at=retry_at)


def _changed(attempt: Attempt, **changes: Any) -> Attempt:
    return attempt.model_copy(update=changes)
