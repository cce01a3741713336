"""The evaluations of a watchlist: their keys, their runs in the lake, and the use of quotas."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property, lru_cache
from typing import Any

from pydantic import ValidationError

from prunelake.comparison_spec import ComparisonSpec
from prunelake.errors import CorruptFile, one_line
from prunelake.identity import ComparisonIdentity, content_hash, run_kind
from prunelake.lake import read
from prunelake.lake.attempt_log import Attempt
from prunelake.lake.storage.location import Location
from prunelake.spec import Calibration, SweepSpec
from prunelake.watch.revisions import ModelRevision
from prunelake.watch.watchlist import WatchlistEntry

QUOTA_WINDOW = timedelta(days=1)


@dataclass(frozen=True)
class Evaluation:
    """A sweep of one revision of a model, or its comparison with a baseline.

    `baseline_revision` is the revision of the baseline; empty for a sweep.
    """

    entry: WatchlistEntry
    model_revision: ModelRevision
    spec: SweepSpec | ComparisonSpec
    baseline_revision: str = ""

    @cached_property
    def spec_key(self) -> str:
        """The key of the spec without its model."""
        if isinstance(self.spec, ComparisonSpec):
            return comparison_key(self.spec, self.baseline_revision)
        return spec_key(self.spec)

    @property
    def kind(self) -> str:
        """The strategy of a sweep, or the baseline of a comparison, as a word for reports."""
        if isinstance(self.spec, ComparisonSpec):
            return f"against {self.spec.baseline.name}"
        return self.spec.strategy.label

    @property
    def key(self) -> str:
        """The key of the revision and the spec, without the model reference: 16 hex digits."""
        return content_hash([self.model_revision.revision, self.spec_key])[:16]


def spec_key(spec: SweepSpec) -> str:
    """The key of a spec without its model: equal for specs that give equal sweeps of any model."""
    if not spec.strategy.reads_text:
        spec = spec.model_copy(update={"calibration": Calibration()})
    return content_hash(spec.model_dump(mode="json", exclude={"model", "commit", "split_rows"}))


def comparison_key(spec: ComparisonSpec, baseline_revision: str) -> str:
    """The key of a comparison with a single candidate, without the candidate's reference."""
    (candidate,) = spec.candidates
    fields = spec.model_dump(mode="json", exclude={"candidates", "split_rows"})
    fields["baseline"] = spec.baseline.model_dump(mode="json", exclude={"commit"}) | {"model": ""}
    own = candidate.model_dump(mode="json", exclude={"model", "commit", "label"})
    return content_hash([baseline_revision, fields, own])


class LakeIndex:
    """An index of the runs in a lake.

    Raises:
        CorruptFile: a `runs` file cannot be read, or a run has no valid spec.
    """

    def __init__(self, lake: Location) -> None:
        self._lake = lake
        self._read()

    def has(self, evaluation: Evaluation) -> bool:
        """Whether the lake has the run of this evaluation."""
        return (evaluation.model_revision.revision, evaluation.spec_key) in self._keys

    def has_task(self, evaluation: Evaluation) -> bool:
        """Whether the lake has any run of this revision on this task."""
        return (evaluation.model_revision.revision, evaluation.spec.task_name) in self._tasks

    def count_since(self, evaluation: Evaluation, moment: datetime) -> int:
        """The number of runs of this spec since `moment`, over all revisions of the model."""
        key = evaluation.model_revision.model, evaluation.spec_key
        return sum(created_at >= moment for created_at in self._creation_times.get(key, ()))

    def refresh(self) -> None:
        """Read the lake again if runs were added or removed."""
        if read.run_ids(self._lake) != self._run_ids:
            self._read()

    def _read(self) -> None:
        self._run_ids = read.run_ids(self._lake)
        columns = ["run_id", "model", "revision", "task", "spec", "identity", "created_at"]
        rows = read.read_run_columns(self._lake, columns).unique("run_id")
        self._keys: set[tuple[str, str]] = set()
        self._tasks: set[tuple[str, str]] = set()
        self._creation_times: dict[tuple[str, str], list[datetime]] = {}
        revisions = dict(rows.select("run_id", "revision").iter_rows())
        for row in rows.iter_rows(named=True):
            self._tasks.add((row["revision"], row["task"]))
            found = self._evaluated(row, revisions)
            if found is not None:
                model, revision, key = found
                self._keys.add((revision, key))
                self._creation_times.setdefault((model, key), []).append(row["created_at"])

    def _evaluated(
        self, row: Mapping[str, Any], revisions: Mapping[str, str]
    ) -> tuple[str, str, str] | None:
        """The model, revision and spec key of the evaluation that a run is; None for others."""
        try:
            if run_kind(row["identity"]) == "sweep":
                return row["model"], row["revision"], _stored_spec_key(row["spec"])
            return _compared(row, revisions)
        except ValidationError as error:
            raise CorruptFile(
                f"run {row['run_id']} in {self._lake}: its spec is not that of a sweep or a "
                f"comparison ({one_line(error)}); restore the run, or delete it and evaluate the "
                "model again"
            ) from error


def _compared(row: Mapping[str, Any], revisions: Mapping[str, str]) -> tuple[str, str, str] | None:
    """The candidate of a comparison; None for an import, or for several candidates.

    `revisions` are those of the runs by id: a comparison names the sweeps of its models.
    """
    if run_kind(row["identity"]) != "comparison":
        return None
    identity = ComparisonIdentity.model_validate_json(row["identity"])
    compared = [revisions.get(item.run_id, "") for item in identity.compared]
    spec = ComparisonSpec.model_validate_json(row["spec"])
    if len(spec.candidates) != 1:
        return None
    return spec.candidates[0].model, compared[1], comparison_key(spec, compared[0])


class RunQuotaUse:
    """The used part of each entry's quota, in this round and in the last day."""

    def __init__(
        self,
        index: LakeIndex,
        attempts: Iterable[Attempt],
        wanted: Collection[Evaluation],
        now: datetime,
    ) -> None:
        since = now - QUOTA_WINDOW
        self._round: Counter[WatchlistEntry] = Counter()
        self._day: Counter[WatchlistEntry] = Counter()
        for evaluation in wanted:
            self._day[evaluation.entry] += index.count_since(evaluation, since)
        recent_attempts = Counter(
            attempt.entry
            for attempt in attempts
            if attempt.started_at >= since and attempt.state != "same"
        )
        for entry in {evaluation.entry for evaluation in wanted}:
            self._day[entry] += recent_attempts[entry.label]

    def refusal(self, evaluation: Evaluation) -> str | None:
        """Why the evaluation must wait for a later round; None if it may start."""
        entry, quota = evaluation.entry, evaluation.entry.budget
        if self._round[entry] >= quota.runs_per_round:
            return f"the entry's budget is {quota.runs_per_round} runs a round"
        if self._day[entry] >= quota.runs_per_day:
            return f"the entry's budget is {quota.runs_per_day} runs a day"
        return None

    def record_start(self, evaluation: Evaluation) -> None:
        """Count the start of an evaluation."""
        self._round[evaluation.entry] += 1
        self._day[evaluation.entry] += 1


@lru_cache(maxsize=16_384)
def _stored_spec_key(text: str) -> str:
    """The key of a spec in JSON, cached because each refresh reads the specs of all runs."""
    return spec_key(SweepSpec.model_validate_json(text))
