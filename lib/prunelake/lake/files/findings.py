"""Findings: a file of a lake that is damaged or left over, and the remedy."""

from dataclasses import dataclass
from enum import Enum

from prunelake.lake.files.manifests import Damage
from prunelake.lake.storage.location import Location
from prunelake.schema.analysis_tables import ANALYSIS_TABLES
from prunelake.schema.profile_tables import PROFILE_TABLES
from prunelake.schema.table import TableGroup


class FindingKind(Enum):
    """The kinds of findings, each with its remedy."""

    damaged = "not as it was written: readers do not see its run; it can be moved aside"
    lost = "a run without its manifest: it can be computed again"
    unanalysed = "a run without analysis: the analysis can be computed"
    orphaned = "belongs to no complete run: garbage collection deletes it after the grace period"
    disposable = "is not needed any more: it can be deleted"


@dataclass(frozen=True)
class Finding:
    """One problem with one file or folder of a lake, and its remedy.

    `run_id` is the run of a missing analysis, or a lost run.
    """

    file: Location
    problem: str
    remedy: str
    kind: FindingKind = FindingKind.damaged
    run_id: str | None = None


def finding_of(damage: Damage) -> Finding:
    """The finding about a damaged file."""
    return Finding(damage.file, damage.problem, remedy(damage.group))


def remedy(group: TableGroup) -> str:
    """The remedy for a damaged file: how to make its run, analysis or profile again."""
    retry = "sweep again"
    if group is PROFILE_TABLES:
        retry = "run `prunelake profile` again"
    elif group is ANALYSIS_TABLES:
        retry = "run `prunelake analyse`"
    return f"restore the file; or run `prunelake doctor --quarantine` and {retry}"
