"""Who runs the sweeps that `watch` starts: this process, or the workers of a Prefect server."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from prunelake.lake.attempt_log import Attempt
from prunelake.watch.evaluations import Evaluation

HEARTBEAT_TIMEOUT = timedelta(minutes=10)
"""How long what works on an evaluation may show no life before it counts as dead."""


@dataclass(frozen=True)
class AttemptOutcome:
    """How an attempt ended."""

    is_success: bool
    reason: str


class Launcher(Protocol):
    """Who runs sweeps."""

    def start(self, evaluation: Evaluation, attempt: Attempt) -> str | None:
        """Run it here, or hand it over and return the id of its flow run.

        Raises:
            NoServer: nobody to hand it over to; it may have been handed over all the same.
            Exception: it was run, and failed.
        """

    def outcome(self, attempt: Attempt, alive_at: datetime) -> AttemptOutcome | None:
        """How an attempt that was running has ended; None while it is alive."""


class LocalLauncher:
    """Sweeps that run here, one after the other; `run` raises where one fails."""

    def __init__(self, run: Callable[[Evaluation], None]) -> None:
        self._run = run

    def start(self, evaluation: Evaluation, attempt: Attempt) -> None:  # noqa: ARG002  # a Starter
        """Run a sweep to its end."""
        self._run(evaluation)

    def outcome(self, attempt: Attempt, alive_at: datetime) -> AttemptOutcome | None:
        """Alive while its process shows life; of a flow run nothing is known here for a day."""
        patience = timedelta(days=1) if attempt.flow_run else HEARTBEAT_TIMEOUT
        if datetime.now(UTC) - alive_at < patience:
            return None
        return AttemptOutcome(False, "what worked on it ended without a word")
