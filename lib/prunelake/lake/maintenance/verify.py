"""Verify a lake: find all its problems, and change nothing."""

from collections.abc import Iterator

from prunelake.lake.files.damage import find_damage
from prunelake.lake.files.findings import Finding, FindingKind, finding_of
from prunelake.lake.maintenance.leftovers import find_leftovers
from prunelake.lake.read import require_lake, unanalysed_run_ids
from prunelake.lake.storage.location import Location
from prunelake.schema.analysis_tables import ANALYSES


def verify_lake(lake: Location) -> list[Finding]:
    """Check every file of every complete run, analysis and profile, and find leftovers.

    Raises:
        LakeError: no such folder.
        WrongFormat: an undamaged manifest of another format version.
    """
    require_lake(lake)
    damage = [finding_of(each) for each in find_damage(lake)]
    return [*damage, *find_leftovers(lake), *_missing_analyses(lake)]


def _missing_analyses(lake: Location) -> Iterator[Finding]:
    for run_id in unanalysed_run_ids(lake):
        problem, remedy = f"run {run_id} has no analysis of this version", "run `prunelake analyse`"
        yield Finding(lake / ANALYSES.name, problem, remedy, FindingKind.unanalysed, run_id)
