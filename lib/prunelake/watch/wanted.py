"""The evaluations that a watchlist asks for now."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from prunelake.comparison_spec import ComparisonSpec, ModelVariant
from prunelake.errors import HubUnreachable, ModelError
from prunelake.spec import SweepSpec
from prunelake.watch.decision import EvaluationState
from prunelake.watch.evaluations import Evaluation
from prunelake.watch.revisions import SkippedModel, find_baseline_revision, find_revisions
from prunelake.watch.round_lines import RoundLine
from prunelake.watch.watchlist import Watchlist


@dataclass
class Wanted:
    """The evaluations by key, and the models whose revision could not be found.

    `unresolved` has the labels of the entries of these models, and `lines` says why.
    """

    evaluations: dict[str, Evaluation] = field(default_factory=dict)
    unresolved: set[str] = field(default_factory=set)
    lines: list[RoundLine] = field(default_factory=list)

    def add_unresolved(
        self, entry_label: str, model: str, state: EvaluationState, detail: str
    ) -> None:
        """Add a model of an entry without a revision."""
        self.unresolved.add(entry_label)
        self.lines.append(RoundLine(model, "", "", state, detail))


def find_wanted(watchlist: Watchlist, cache: Path) -> Wanted:
    """Find the newest revision of each model, and the evaluations that its entry asks for.

    If the hub does not answer for one entry, it is not asked for the others.
    """
    wanted = Wanted()
    outage: HubUnreachable | None = None
    for entry in watchlist.entries:
        label = entry.label
        try:
            if outage is not None and entry.needs_hub:
                raise outage  # one timeout per round is enough
            baseline_revision = find_baseline_revision(entry, cache)
            for found in find_revisions(entry, cache):
                if isinstance(found, SkippedModel):
                    skipped = EvaluationState.skipped
                    wanted.add_unresolved(label, found.model, skipped, found.reason)
                    continue
                for spec in entry.specs(found.model):
                    pinned = _pinned(spec, found.revision, baseline_revision)
                    evaluation = Evaluation(entry, found, pinned, baseline_revision)
                    wanted.evaluations.setdefault(evaluation.key, evaluation)
        except HubUnreachable as error:
            outage = error
            wanted.add_unresolved(label, label, EvaluationState.unreachable, str(error))
        except ModelError as error:
            wanted.add_unresolved(label, label, EvaluationState.skipped, str(error))
    return wanted


SpecT = TypeVar("SpecT", SweepSpec, ModelVariant)


def _pinned(
    spec: SweepSpec | ComparisonSpec, revision: str, baseline_revision: str
) -> SweepSpec | ComparisonSpec:
    """The spec with the commits of its hub models: they may have newer ones when it starts."""
    if isinstance(spec, SweepSpec):
        return _at_commit(spec, revision)
    (candidate,) = spec.candidates
    models = {
        "baseline": _at_commit(spec.baseline, baseline_revision),
        "candidates": (_at_commit(candidate, revision),),
    }
    return spec.model_copy(update=models)


def _at_commit(spec: SpecT, revision: str) -> SpecT:
    return spec.model_copy(update={"commit": revision}) if spec.model.startswith("hub:") else spec
