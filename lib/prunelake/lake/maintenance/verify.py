"""Verify a lake: find all its problems, and change nothing."""

from prunelake.lake.files.damage import find_damage
from prunelake.lake.files.findings import Finding, FindingKind, finding_of
from prunelake.lake.maintenance.leftovers import find_leftovers
from prunelake.lake.read import require_lake, unanalysed_run_ids
from prunelake.lake.storage.location import Location
from prunelake.schema.analysis_tables import ANALYSES, ANALYSIS_TABLES


def verify_lake(lake: Location) -> list[Finding]:
    """Check every file of every complete run, analysis and profile, and find leftovers.

    Raises:
        LakeError: no such folder.
        WrongFormat: an undamaged manifest of another format version.
    """
    require_lake(lake)
    damage = list(find_damage(lake))
    findings = [*map(finding_of, damage), *find_leftovers(lake)]
    damaged = frozenset[str]().union(
        *(each.owners for each in damage if each.group is ANALYSIS_TABLES)
    )
    for run_id in sorted(set(unanalysed_run_ids(lake)) - damaged):
        problem, remedy = f"run {run_id} has no analysis of this version", "run `prunelake analyse`"
        missing = Finding(lake / ANALYSES.name, problem, remedy, FindingKind.unanalysed, run_id)
        findings.append(missing)
    return findings
