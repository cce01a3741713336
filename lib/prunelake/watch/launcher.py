"""Launchers of the sweeps that `watch` starts.

`LocalLauncher` runs them in this process. `prunelake.flows.watch.DeploymentLauncher` hands them to
the workers of a Prefect server.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from prunelake.lake.attempt_log import Attempt
from prunelake.watch.evaluations import Evaluation

HEARTBEAT_TIMEOUT = timedelta(minutes=2)
"""A process that sends no heartbeat for this long counts as dead."""


@dataclass(frozen=True)
class AttemptOutcome:
    """The outcome of an attempt; `reason` describes it in words.

    `is_machine_failure`: its machine or server failed, so that the same sweep may succeed at once.
    """

    is_success: bool
    reason: str
    is_machine_failure: bool = False


class Launcher(Protocol):
    """Starts sweeps and knows their outcomes; `largest_group` limits those that start together."""

    largest_group: int

    def start(self, group: Sequence[tuple[Evaluation, Attempt]]) -> str | None:
        """Run the sweeps here and return None, or hand them over and return their flow run's id.

        Raises:
            PrefectUnavailable: the server does not answer; it may have accepted the sweeps.
            Exception: the sweeps ran here and failed.
        """

    def outcome(self, attempt: Attempt, alive_at: datetime) -> AttemptOutcome | None:
        """The outcome of an attempt whose last heartbeat was at `alive_at`; None if it runs."""


class LocalLauncher:
    """Runs sweeps in this process, one after the other, with `run`, which raises on failure."""

    largest_group = 1

    def __init__(self, run: Callable[[Evaluation], None]) -> None:
        self._run = run

    def start(self, group: Sequence[tuple[Evaluation, Attempt]]) -> None:
        """Run the sweep to its end."""
        for evaluation, _ in group:
            self._run(evaluation)

    def outcome(self, attempt: Attempt, alive_at: datetime) -> AttemptOutcome | None:
        """None while the heartbeats continue.

        The state of a flow run is unknown here, so it counts as running for a day.
        """
        timeout = timedelta(days=1) if attempt.flow_run else HEARTBEAT_TIMEOUT
        if datetime.now(UTC) - alive_at < timeout:
            return None
        return AttemptOutcome(
            False, "its process ended without reporting a result", is_machine_failure=True
        )
