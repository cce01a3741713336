"""Launchers of the sweeps that `watch` starts.

`LocalLauncher` runs them in this process. `prunelake.flows.watch.DeploymentLauncher` hands them to
the workers of a Prefect server.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from prunelake.lake.attempt_log import Attempt
from prunelake.watch.evaluations import Evaluation

HEARTBEAT_TIMEOUT = timedelta(minutes=10)
"""A process that sends no heartbeat for this long counts as dead."""


@dataclass(frozen=True)
class AttemptOutcome:
    """The outcome of an attempt; `reason` describes it in words."""

    is_success: bool
    reason: str


class Launcher(Protocol):
    """Starts sweeps and knows their outcomes."""

    def start(self, evaluation: Evaluation, attempt: Attempt) -> str | None:
        """Run the sweep here and return None, or hand it over and return the id of its flow run.

        Raises:
            PrefectUnavailable: the server does not answer; it may have accepted the sweep.
            Exception: the sweep ran here and failed.
        """

    def outcome(self, attempt: Attempt, alive_at: datetime) -> AttemptOutcome | None:
        """The outcome of an attempt whose last heartbeat was at `alive_at`; None if it runs."""


class LocalLauncher:
    """Runs sweeps in this process, one after the other, with `run`, which raises on failure."""

    def __init__(self, run: Callable[[Evaluation], None]) -> None:
        self._run = run

    def start(self, evaluation: Evaluation, attempt: Attempt) -> None:  # noqa: ARG002  # a Launcher
        """Run the sweep to its end."""
        self._run(evaluation)

    def outcome(self, attempt: Attempt, alive_at: datetime) -> AttemptOutcome | None:
        """None while the heartbeats continue.

        The state of a flow run is unknown here, so it counts as running for a day.
        """
        timeout = timedelta(days=1) if attempt.flow_run else HEARTBEAT_TIMEOUT
        if datetime.now(UTC) - alive_at < timeout:
            return None
        return AttemptOutcome(False, "its process ended without reporting a result")
