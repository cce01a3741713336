"""Verify a lake: find all its problems, and change nothing."""

from collections.abc import Iterator

from prunelake.errors import LakeError
from prunelake.lake.files.damage import find_damage
from prunelake.lake.files.findings import Finding, FindingKind
from prunelake.lake.files.paths import table_file
from prunelake.lake.maintenance.leftovers import find_leftovers
from prunelake.lake.read import require_lake, unanalysed_run_ids
from prunelake.lake.storage.location import Location
from prunelake.schema.analysis_tables import ANALYSES


def verify_lake(lake: Location) -> list[Finding]:
    """Check every file of every complete run, analysis and profile, and find leftovers.

    Raises:
        LakeError: no such folder.
        WrongFormat: an undamaged file of another format version.
    """
    require_lake(lake)
    damage = list(find_damage(lake))
    try:
        return [*damage, *find_leftovers(lake), *_missing_analyses(lake)]
    except LakeError:
        # With a damaged manifest the runs are unknown; it is among the findings.
        if not damage:
            raise
        return damage


def _missing_analyses(lake: Location) -> Iterator[Finding]:
    for run_id in unanalysed_run_ids(lake):
        path = table_file(lake, ANALYSES.name, run_id)
        problem = "missing, or of another version"
        yield Finding(path, problem, "run `prunelake analyse`", FindingKind.unanalysed)
