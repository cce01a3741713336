"""Watchlists, fake saved models, and a launcher that records the started evaluations."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from prunelake.lake import attempt_log
from prunelake.lake.attempt_log import Attempt
from prunelake.lake.commit import write_run
from prunelake.settings import Settings
from prunelake.watch.evaluations import Evaluation
from prunelake.watch.launcher import AttemptOutcome
from prunelake.watch.round_lines import RoundLine
from prunelake.watch.rounds import WatchRound
from prunelake.watch.watchlist import Watchlist, read_watchlist
from tests.support.runs.lake_rows import frames, run_row

WATCHLIST_DEFAULTS = {"tasks": ["opinions"], "rows": {"first": 4}, "explain": None, "settle_s": 0}


def saved_model(folder: Path, weights: str = "weights") -> Path:
    """Write files that look like a saved model to code that reads no weights."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_text(weights)
    return folder


def watchlist(folder: Path, *models: Mapping[str, Any], **defaults: Any) -> Watchlist:
    path = folder / "watchlist.yaml"
    content = {
        "defaults": WATCHLIST_DEFAULTS | defaults,
        "models": [dict(model) for model in models],
    }
    path.write_text(yaml.safe_dump(content))
    return read_watchlist(path)


def write_evaluated_run(lake: Path, evaluation: Evaluation, **columns: Any) -> str:
    """Write the run that a sweep of this evaluation would write; its run_id."""
    spec = evaluation.spec
    row = run_row(
        f"{evaluation.key} {json.dumps(columns, default=str)}",
        **{
            "model": evaluation.model_revision.model,
            "revision": evaluation.model_revision.revision,
            "task": spec.task,
            "spec": spec.model_dump_json(),
        }
        | columns,
    )
    write_run(lake, row, frames())
    return str(row["run_id"])


class FakeLauncher:
    """Calls `work` for each evaluation; with `flow_run` it acts as a remote launcher."""

    def __init__(
        self,
        work: Callable[[Evaluation], object] | None = None,
        flow_run: str | None = None,
        largest_group: int = 1,
    ) -> None:
        self.largest_group = largest_group
        self.groups: list[int] = []
        self.started: list[Evaluation] = []
        self.attempts: list[Attempt] = []
        self.ends: dict[str, AttemptOutcome] = {}  # by the model's name
        self._work = work or (lambda _: None)
        self._flow_run = flow_run

    def start(self, group: Sequence[tuple[Evaluation, Attempt]]) -> str | None:
        self.groups.append(len(group))
        for evaluation, attempt in group:
            self.started.append(evaluation)
            self.attempts.append(attempt)
            self._work(evaluation)
        return self._flow_run

    def outcome(self, attempt: Attempt, alive_at: datetime) -> AttemptOutcome | None:  # noqa: ARG002  # a Launcher
        return self.ends.get(Path(attempt.model).name)

    @property
    def models(self) -> list[str]:
        return [Path(each.model_revision.model).name for each in self.started]


def run_round(
    watchlist: Watchlist, settings: Settings, worker: FakeLauncher, **options: bool
) -> list[RoundLine]:
    return WatchRound(watchlist, settings, worker, **options).run()


def model_states(lines: list[RoundLine]) -> list[tuple[str, str]]:
    """The last part of each model's name, and its state."""
    return [(Path(line.model).name, str(line.state)) for line in lines]


def change_attempt(lake: Path, **changes: Any) -> None:
    """Change the only attempt in the log, as if time had passed."""
    (attempt,) = attempt_log.read_attempts(lake).values()
    assert attempt_log.compare_and_swap(lake, attempt, attempt.model_copy(update=changes))
