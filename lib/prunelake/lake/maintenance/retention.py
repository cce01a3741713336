"""Find and remove superseded runs: runs of older revisions of a model.

Two runs have the same settings if their specs differ only in the revision of the model reference.
The newest revision is the revision of the newest run.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from prunelake.identity import run_kind
from prunelake.lake.files.entries import retire_owners
from prunelake.lake.read import read_table, require_lake
from prunelake.lake.storage.location import Location
from prunelake.schema.profile_tables import PROFILE_TABLES
from prunelake.schema.run_tables import RUN_TABLES
from prunelake.spec import SweepSpec

JsonRow = dict[str, Any]

_DESCRIPTION = ("run_id", "created_at", "model", "revision", "task", "strategy")


@dataclass(frozen=True)
class SupersededRun:
    """A run whose revision is not among the newest of its model, task, strategy and settings."""

    run_id: str
    created_at: datetime
    model: str
    revision: str
    task: str
    strategy: str
    superseded_by: str
    """The run_id of the newest run of the same settings."""


def find_superseded(lake: Location, keep: int = 1, imports: bool = False) -> list[SupersededRun]:
    """The runs of all but the newest `keep` revisions, by model and from old to new.

    With `imports`, they include imported results that a later import replaced; each import then
    counts as a revision.

    Raises:
        LakeError: no such folder.
        WrongFormat, CorruptFile: as `read.read_table`.
    """
    assert keep >= 1, "the newest run is never superseded"
    revisions_by_settings: dict[tuple[str, ...], dict[str, list[JsonRow]]] = {}
    columns = (*_DESCRIPTION, "spec", "identity")
    for row in read_table(lake, "runs").select(columns).sort("created_at").to_dicts():
        kind = run_kind(row["identity"])
        if kind == "sweep":
            settings, revision = _settings_key(row["spec"]), row["revision"]
        elif kind == "comparison":
            settings, revision = row["spec"], row["run_id"]
        elif imports:
            settings, revision = json.loads(row["spec"])["source"], row["run_id"]
        else:
            continue
        key = (kind, _without_revision(row["model"]), row["task"], row["strategy"], settings)
        # A revision moves to the end with each newer run.
        revisions = revisions_by_settings.setdefault(key, {})
        revisions[revision] = [*revisions.pop(revision, []), row]
    superseded = [
        run
        for revisions in revisions_by_settings.values()
        for run in _superseded_runs(revisions.values(), keep)
    ]
    return sorted(superseded, key=lambda run: (run.model, run.task, run.created_at))


def retire(lake: Location, keep: int = 1, imports: bool = False) -> list[SupersededRun]:
    """Hide the superseded runs, with their analyses, from all readers; return these runs.

    Profiles of revisions without remaining runs are retired, too. Compaction and garbage collection
    remove the files later. The published snapshot is not changed.

    Raises:
        LakeError: no such folder, or a folder that cannot be written.
        WrongFormat, CorruptFile: as `find_superseded`.
    """
    require_lake(lake)
    superseded = find_superseded(lake, keep, imports)
    retire_owners(lake, RUN_TABLES, {run.run_id for run in superseded})
    revisions = {run.revision for run in superseded}
    revisions.difference_update(read_table(lake, "runs")["revision"])
    profiles = read_table(lake, "profiles").filter(pl.col("revision").is_in(revisions))
    retire_owners(lake, PROFILE_TABLES, set(profiles["profile_id"]))
    return superseded


def _superseded_runs(revisions: Iterable[list[JsonRow]], keep: int) -> Iterable[SupersededRun]:
    ordered = list(revisions)
    newest = ordered[-1][-1]["run_id"]
    for rows in ordered[:-keep]:
        for row in rows:
            described = {name: row[name] for name in _DESCRIPTION}
            yield SupersededRun(**described, superseded_by=newest)


def _settings_key(spec: str) -> str:
    """The spec (JSON) of a sweep in one spelling, without the revision of the model."""
    parsed = SweepSpec.model_validate_json(spec)
    update = {"model": _without_revision(parsed.model), "commit": None, "split_rows": None}
    return parsed.model_copy(update=update).model_dump_json()


def _without_revision(model: str) -> str:
    return model.partition("@")[0] if model.startswith("hub:") else model
