"""The evaluations of a watchlist: their keys, their runs in the lake, and the use of quotas."""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property, lru_cache

from pydantic import ValidationError

from prunelake.errors import CorruptFile, one_line
from prunelake.identity import content_hash
from prunelake.lake import read
from prunelake.lake.attempt_log import Attempt
from prunelake.lake.storage.location import Location
from prunelake.spec import Calibration, SweepSpec
from prunelake.watch.revisions import ModelRevision
from prunelake.watch.watchlist import WatchlistEntry

QUOTA_WINDOW = timedelta(days=1)


@dataclass(frozen=True)
class Evaluation:
    """A sweep of one revision of a model."""

    entry: WatchlistEntry
    model_revision: ModelRevision
    spec: SweepSpec

    @cached_property
    def spec_key(self) -> str:
        """The key of the spec without its model."""
        return spec_key(self.spec)

    @property
    def key(self) -> str:
        """The key of the revision and the spec, without the model reference: 16 hex digits."""
        return content_hash([self.model_revision.revision, self.spec_key])[:16]


def spec_key(spec: SweepSpec) -> str:
    """The key of a spec without its model: equal for specs that give equal sweeps of any model."""
    if not spec.strategy.reads_text:
        spec = spec.model_copy(update={"calibration": Calibration()})
    return content_hash(spec.model_dump(mode="json", exclude={"model", "split_rows"}))


class LakeIndex:
    """An index of the runs in a lake.

    Raises:
        CorruptFile: a `runs` file cannot be read, or a run of a sweep has no valid spec.
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
        if read.run_manifest_files(self._lake) != self._manifest_files:
            self._read()

    def _read(self) -> None:
        self._manifest_files = read.run_manifest_files(self._lake)
        columns = ["run_id", "model", "revision", "task", "spec", "identity", "created_at"]
        rows = read.read_run_columns(self._lake, columns).unique("run_id")
        self._keys: set[tuple[str, str]] = set()
        self._tasks: set[tuple[str, str]] = set()
        self._creation_times: dict[tuple[str, str], list[datetime]] = {}
        for run_id, model, revision, task, spec, identity, created_at in rows.iter_rows():
            self._tasks.add((revision, task))
            if not read.is_sweep(identity):
                continue
            try:
                key = _stored_spec_key(spec)
            except ValidationError as error:
                raise CorruptFile(
                    f"run {run_id} in {self._lake}: its spec is not that of a sweep "
                    f"({one_line(error)}); restore the run, or delete it and sweep it again"
                ) from error
            self._keys.add((revision, key))
            self._creation_times.setdefault((model, key), []).append(created_at)


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
