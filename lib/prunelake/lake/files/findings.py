"""Findings: a file of a lake that is damaged or left over, and the remedy."""

from dataclasses import dataclass
from enum import Enum

from prunelake.lake.files.paths import owner_id, table_file
from prunelake.lake.storage.location import Location
from prunelake.schema.analysis_tables import ANALYSES, ANALYSIS_TABLES
from prunelake.schema.profile_tables import PROFILE_TABLES, PROFILES
from prunelake.schema.run_tables import RUNS


class FindingKind(Enum):
    """The kinds of findings, each with its remedy."""

    damaged = "not as it was written: the file and all that depends on it can be moved aside"
    unanalysed = "a run without analysis: the analysis can be computed"
    orphaned = "belongs to no complete run: it can be moved aside"
    disposable = "is not needed any more: it can be deleted"


@dataclass(frozen=True)
class Finding:
    """One problem with one file or folder of a lake, and its remedy."""

    file: Location
    problem: str
    remedy: str
    kind: FindingKind = FindingKind.damaged


def repair_hint(path: Location) -> str:
    """The remedy for a damaged file: how to make its run, analysis or profile again."""
    lake, table, owner = path.parent.parent, path.parent.name, owner_id(path)
    if table in PROFILE_TABLES:
        manifest = table_file(lake, PROFILES.name, owner)
        return f"delete {manifest} and run `prunelake profile` again"
    if table in ANALYSIS_TABLES:
        manifest = table_file(lake, ANALYSES.name, owner)
        return f"delete {manifest} and run `prunelake analyse`"
    manifest = table_file(lake, RUNS.name, owner)
    return f"delete {manifest} or restore the file, and sweep again"
