"""Evaluations that a watchlist asks for: their names, whether the lake has them, their budgets."""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property, lru_cache

from pydantic import ValidationError

from prunelake.lake import read
from prunelake.lake.attempt_log import Attempt
from prunelake.lake.storage import Location
from prunelake.spec import Calibration, SweepSpec, content_hash
from prunelake.watch.revisions import ModelRevision
from prunelake.watch.watchlist import WatchlistEntry

QUOTA_WINDOW = timedelta(days=1)


@dataclass(frozen=True)
class Evaluation:
    """One sweep of one revision of a model."""

    entry: WatchlistEntry
    model_revision: ModelRevision
    spec: SweepSpec

    @cached_property
    def spec_key(self) -> str:
        """Names the spec, whatever its model."""
        return spec_key(self.spec)

    @property
    def key(self) -> str:
        """Names the revision and the spec, however the model was referred to."""
        return content_hash([self.model_revision.revision, self.spec_key])[:16]


def spec_key(spec: SweepSpec) -> str:
    """Equal for specs that say the same of any model, however they are spelled."""
    if not spec.strategy.reads_text:
        spec = spec.model_copy(update={"calibration": Calibration()})
    return content_hash(spec.model_dump(mode="json", exclude={"model"}))


class LakeIndex:
    """The runs of a lake, read again by `refresh` when there are others.

    Raises:
        CorruptFile: a `runs` file that cannot be read.
    """

    def __init__(self, folder: Location) -> None:
        self._lake = folder
        self._read()

    def has(self, wanted: Evaluation) -> bool:
        """Whether the lake has this evaluation."""
        return (wanted.model_revision.revision, wanted.spec_key) in self._keys

    def has_task(self, wanted: Evaluation) -> bool:
        """Whether the lake has any run of this revision on this task."""
        return (wanted.model_revision.revision, wanted.spec.task_name) in self._tasks

    def count_since(self, wanted: Evaluation, moment: datetime) -> int:
        """How many runs of this spec, of any revision of the model, were made since then."""
        made = self._made.get((wanted.model_revision.model, wanted.spec_key), ())
        return sum(at >= moment for at in made)

    def refresh(self) -> None:
        """Read the lake again if runs have come or gone."""
        if read.run_manifest_files(self._lake) != self._heads:
            self._read()

    def _read(self) -> None:
        self._heads = read.run_manifest_files(self._lake)
        columns = ["run_id", "model", "revision", "task", "spec", "created_at"]
        rows = read.read_run_columns(self._lake, columns).unique("run_id")
        self._keys: set[tuple[str, str]] = set()
        self._tasks: set[tuple[str, str]] = set()
        self._made: dict[tuple[str, str], list[datetime]] = {}
        for _, model, revision, task, spec, created_at in rows.iter_rows():
            self._tasks.add((revision, task))
            key = _stored_spec_key(spec)
            if key is not None:
                self._keys.add((revision, key))
                self._made.setdefault((model, key), []).append(created_at)


class RunQuotaUse:
    """What the budgets of the entries still let start in this round."""

    def __init__(
        self,
        held: LakeIndex,
        attempts: Iterable[Attempt],
        wanted: Collection[Evaluation],
        now: datetime,
    ) -> None:
        since = now - QUOTA_WINDOW
        self._round: Counter[WatchlistEntry] = Counter()
        self._day: Counter[WatchlistEntry] = Counter()
        for evaluation in wanted:
            self._day[evaluation.entry] += held.count_since(evaluation, since)
        tried = Counter(a.entry for a in attempts if a.started_at >= since and a.state != "same")
        for entry in {evaluation.entry for evaluation in wanted}:
            self._day[entry] += tried[entry.label]

    def refusal(self, wanted: Evaluation) -> str | None:
        """Why an evaluation has to wait for another round, or None."""
        entry, budget = wanted.entry, wanted.entry.budget
        if self._round[entry] >= budget.runs_per_round:
            return f"the entry's budget is {budget.runs_per_round} runs a round"
        if self._day[entry] >= budget.runs_per_day:
            return f"the entry's budget is {budget.runs_per_day} runs a day"
        return None

    def record_start(self, wanted: Evaluation) -> None:
        """Count one that is started."""
        self._round[wanted.entry] += 1
        self._day[wanted.entry] += 1


@lru_cache(maxsize=16_384)
def _stored_spec_key(text: str) -> str | None:
    """The key of a run's spec; None where the run came from elsewhere and has none."""
    try:
        return spec_key(SweepSpec.model_validate_json(text))
    except ValidationError:
        return None
