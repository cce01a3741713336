"""One round of `watch`: start the evaluations that the watchlist wants and the lake lacks."""

import threading
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from prunelake.errors import LakeError, PrefectUnavailable, PruneLakeError, one_line
from prunelake.lake import attempt_log
from prunelake.lake.attempt_log import Attempt
from prunelake.lake.storage.location import Location
from prunelake.settings import Settings
from prunelake.spec import SweepSpec
from prunelake.watch.decision import (
    Decision,
    EvaluationState,
    failed_attempt,
    format_time,
    next_step,
)
from prunelake.watch.evaluations import Evaluation, LakeIndex, RunQuotaUse
from prunelake.watch.failures import is_machine_failure
from prunelake.watch.launcher import HEARTBEAT_TIMEOUT, Launcher
from prunelake.watch.round_lines import RoundLine
from prunelake.watch.status import record_status
from prunelake.watch.wanted import find_wanted
from prunelake.watch.watchlist import Watchlist


class WatchRound:
    """One round over a watchlist.

        lines = WatchRound(read_watchlist(path), Settings(), launcher).run()

    `is_retry` starts failed and parked evaluations at once. A dry run changes nothing.
    """

    def __init__(
        self,
        watchlist: Watchlist,
        settings: Settings,
        launcher: Launcher,
        *,
        is_retry: bool = False,
        is_dry: bool = False,
    ) -> None:
        self._watchlist = watchlist
        self._lake = settings.lake
        self._cache = settings.cache.expanduser()
        self._launcher = launcher
        self._is_retry = is_retry
        self._is_dry = is_dry
        self._lines: list[RoundLine] = []

    def run(self) -> list[RoundLine]:
        """Start evaluations, and return a line for each evaluation that is not in the lake.

        Raises:
            PrefectUnavailable: as `Launcher.start`; the next round starts the remaining
                evaluations.
            LakeError, CorruptFile: the lake cannot be read or written.
        """
        found = find_wanted(self._watchlist, self._cache)
        self._lines = found.lines
        wanted = found.evaluations
        self._index = LakeIndex(self._lake)
        attempts = attempt_log.read_attempts(self._lake)
        quota_use = RunQuotaUse(self._index, attempts.values(), wanted.values(), datetime.now(UTC))
        decisions = [
            (evaluation, decision)
            for key, evaluation in wanted.items()
            if (decision := self._decide(evaluation, attempts.get(key))).may_start
        ]
        unwanted = {key: attempt for key, attempt in attempts.items() if key not in wanted}
        self._drop_unwanted(unwanted, found.unresolved)
        # Repeated failures must not use up the quota of evaluations that were never tried.
        starting: list[tuple[Evaluation, Decision]] = []
        for evaluation, decision in sorted(decisions, key=lambda pair: pair[1].failures):
            refusal = quota_use.refusal(evaluation)
            if refusal is not None:
                self._add_line(evaluation, EvaluationState.waiting, refusal)
                continue
            quota_use.record_start(evaluation)
            if self._is_dry:
                self._add_line(evaluation, EvaluationState.missing)
            else:
                starting.append((evaluation, decision))
        for group in start_groups(starting, self._launcher.largest_group):
            self._start(group)
        if not self._is_dry:
            problems = (EvaluationState.failed, EvaluationState.parked, EvaluationState.unreachable)
            with suppress(OSError, LakeError):  # only monitors read it
                record_status(
                    self._lake, "watch", sum(line.state in problems for line in self._lines)
                )
        return self._lines

    def _decide(self, evaluation: Evaluation, attempt: Attempt | None) -> Decision:
        """Decide on an evaluation, and update its attempt in the log."""
        outcome = None
        if attempt is not None and attempt.state == "running" and not self._index.has(evaluation):
            alive_at = attempt_log.last_heartbeat(self._lake, attempt)
            outcome = self._launcher.outcome(attempt, alive_at)
            if outcome is not None:
                self._index.refresh()  # the attempt may have ended after the lake was read
        decision = next_step(
            attempt,
            outcome,
            has_run=self._index.has(evaluation),
            has_task=self._index.has_task(evaluation),
            is_retry=self._is_retry,
            now=datetime.now(UTC),
        )
        if decision.attempt != attempt:
            is_swapped = self._swap(attempt, decision.attempt)
            if not is_swapped and (decision.may_start or decision.state is not None):
                decision = Decision(
                    attempt,
                    state=EvaluationState.in_flight,
                    detail="another watcher has just updated it",
                )
        if decision.state is not None:
            self._add_line(evaluation, decision.state, decision.detail)
        return decision

    def _drop_unwanted(self, unwanted: Mapping[str, Attempt], unresolved: Collection[str]) -> None:
        """Drop the attempts of this watchlist at old revisions and old specs.

        The revisions of models in `unresolved` entries are unknown, so their attempts stay.
        """
        for attempt in unwanted.values():
            is_listed_here = attempt.watchlist == str(self._watchlist.path.absolute())
            if not is_listed_here or attempt.entry in unresolved:
                continue
            if attempt.state == "running":
                alive_at = attempt_log.last_heartbeat(self._lake, attempt)
                if self._launcher.outcome(attempt, alive_at) is None:
                    continue
            self._swap(attempt, None)

    def _start(self, group: Sequence[tuple[Evaluation, Decision]]) -> None:
        """Start evaluations of one model together."""
        starts = [
            (evaluation, decision, claim)
            for evaluation, decision in group
            if (claim := self._claim(evaluation, decision)) is not None
        ]
        if not starts:
            return
        try:
            with _heartbeat(self._lake, [claim for _, _, claim in starts]):
                flow_run = self._launcher.start(
                    [(evaluation, claim) for evaluation, _, claim in starts]
                )
        except PrefectUnavailable:
            raise  # the claims stay: the server may have accepted the sweeps
        except (KeyboardInterrupt, SystemExit):
            # Ctrl-C or SIGTERM stopped the sweep: this is not a failure.
            for _, decision, claim in starts:
                self._swap(claim, decision.attempt)
            raise
        except Exception as error:  # a sweep may raise any error; the other evaluations go on
            for evaluation, _, claim in starts:
                self._record_failure(evaluation, claim, error)
            return
        for evaluation, _, claim in starts:
            if flow_run is not None:
                self._swap(claim, claim.model_copy(update={"flow_run": flow_run}))
                self._add_line(evaluation, EvaluationState.started, f"flow run {flow_run}")
                continue
            self._index.refresh()
            is_written = self._index.has(evaluation)
            self._swap(claim, None if is_written else claim.model_copy(update={"state": "same"}))
            self._add_line(evaluation, EvaluationState.evaluated)

    def _claim(self, evaluation: Evaluation, decision: Decision) -> Attempt | None:
        """The attempt of this process at an evaluation; None if another process was first."""
        claim = Attempt(
            key=evaluation.key,
            watchlist=str(self._watchlist.path.absolute()),
            entry=evaluation.entry.label,
            model=evaluation.model_revision.model,
            revision=evaluation.model_revision.revision,
            task=evaluation.spec.task_name,
            strategy=evaluation.kind,
            state="running",
            number=decision.failures + 1,
            machine_failures=decision.attempt.machine_failures if decision.attempt else 0,
            nonce=uuid.uuid4().hex[:8],
            started_at=datetime.now(UTC),
        )
        if not self._swap(decision.attempt, claim):
            self._add_line(
                evaluation, EvaluationState.in_flight, "another watcher has just started it"
            )
            return None
        self._index.refresh()
        if self._index.has(evaluation):  # another process wrote the run after the round began
            self._swap(claim, None)
            return None
        return claim

    def _record_failure(self, evaluation: Evaluation, claim: Attempt, error: Exception) -> None:
        reason = str(error) if isinstance(error, PruneLakeError) else one_line(error)
        failed = failed_attempt(
            claim, reason, datetime.now(UTC), is_machine_failure=is_machine_failure(error)
        )
        self._swap(claim, failed)
        then = "parked" if failed.retry_at is None else f"next {format_time(failed.retry_at)}"
        self._add_line(evaluation, EvaluationState.failed, f"{failed.failure} ({then})")

    def _swap(self, old: Attempt | None, new: Attempt | None) -> bool:
        return self._is_dry or attempt_log.compare_and_swap(self._lake, old, new)

    def _add_line(self, evaluation: Evaluation, state: EvaluationState, detail: str = "") -> None:
        line = RoundLine(
            evaluation.model_revision.model,
            evaluation.spec.task_name,
            evaluation.kind,
            state,
            detail,
        )
        self._lines.append(line)


def start_groups(
    starting: Iterable[tuple[Evaluation, Decision]], largest: int
) -> list[list[tuple[Evaluation, Decision]]]:
    """Group sweeps that one process can compute with one loaded model, in their order.

    A sweep that failed before, and a comparison, is alone: it must not end the others.
    """
    groups: list[list[tuple[Evaluation, Decision]]] = []
    open_groups: dict[tuple[str, str], list[tuple[Evaluation, Decision]]] = {}
    for evaluation, decision in starting:
        group: list[tuple[Evaluation, Decision]] = []
        if isinstance(evaluation.spec, SweepSpec) and decision.attempt is None:
            group = open_groups.setdefault(
                (evaluation.model_revision.model, evaluation.spec.dtype), group
            )
            if len(group) + 1 >= largest:
                del open_groups[evaluation.model_revision.model, evaluation.spec.dtype]
        if not group:
            groups.append(group)
        group.append((evaluation, decision))
    return groups


@contextmanager
def _heartbeat(lake: Location, attempts: Sequence[Attempt]) -> Iterator[None]:
    """Send heartbeats for attempts from a thread: a sweep takes hours and sends none itself."""
    is_over = threading.Event()

    def send() -> None:
        while not is_over.wait(HEARTBEAT_TIMEOUT.total_seconds() / 10):
            for attempt in attempts:
                with suppress(OSError, LakeError):
                    attempt_log.send_heartbeat(lake, attempt)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
