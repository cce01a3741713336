"""Runs of model revisions that newer runs supersede: which they are, and removing them.

Two runs are of the same settings where they were asked for in the same words, but for the revision
that a model reference may name. The newest revision is the one with the newest run.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl
from pydantic import ValidationError

from prunelake.lake.compact import delete_entries
from prunelake.lake.locks import PUBLISH_LOCK, locked
from prunelake.lake.manifests import ANALYSIS_GROUP, PROFILE_GROUP, RUN_GROUP
from prunelake.lake.read import read_table, require_lake
from prunelake.lake.storage import Location
from prunelake.spec import SweepSpec

JsonRow = dict[str, Any]


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

    With `imports` also results of others that were imported again since; of them each import is a
    revision.

    Raises:
        LakeError: no such folder.
        WrongFormat, CorruptFile: as `read.read_table`.
    """
    assert keep >= 1, "the newest run is never superseded"
    alike: dict[tuple[str, ...], dict[str, list[JsonRow]]] = {}
    columns = ("run_id", "created_at", "model", "revision", "task", "strategy", "spec", "identity")
    for row in read_table(lake, "runs").select(columns).sort("created_at").to_dicts():
        is_import = json.loads(row["identity"]).get("kind") == "import"
        if not is_import:
            kind, settings, revision = "sweep", _settings_key(row["spec"]), row["revision"]
        elif imports:
            settings = json.loads(row["spec"])["source"]
            kind, revision = "import", row["run_id"]
        else:
            continue
        key = (kind, _without_revision(row["model"]), row["task"], row["strategy"], settings)
        # A revision that has a newer run comes last again.
        revisions = alike.setdefault(key, {})
        revisions[revision] = [*revisions.pop(revision, []), row]
    found = [
        run for revisions in alike.values() for run in _superseded_runs(revisions.values(), keep)
    ]
    return sorted(found, key=lambda run: (run.model, run.task, run.created_at))


def retire(lake: Location, keep: int = 1, imports: bool = False) -> list[SupersededRun]:
    """Remove the superseded runs whole, with their analyses; those that were removed.

    The profiles of revisions that no run is of any more go with them. No reader sees a part of one.
    The published snapshot is not touched.

    Raises:
        LakeError: no such folder, or one that cannot be written.
        WrongFormat, CorruptFile: as `compact.compact`.
    """
    require_lake(lake)
    with locked(lake, PUBLISH_LOCK), locked(lake):
        found = find_superseded(lake, keep, imports)
        gone = [run.run_id for run in found]
        # An analysis without its run is not seen, a run without its analysis would be.
        for group in (RUN_GROUP, ANALYSIS_GROUP):
            delete_entries(lake, group, gone)
        lost = {run.revision for run in found}.difference(read_table(lake, "runs")["revision"])
        profiles = read_table(lake, "profiles")
        delete_entries(
            lake, PROFILE_GROUP, profiles.filter(pl.col("revision").is_in(lost))["profile_id"]
        )
    return found


def _superseded_runs(revisions: Iterable[list[JsonRow]], keep: int) -> Iterable[SupersededRun]:
    ordered = list(revisions)
    newest = ordered[-1][-1]["run_id"]
    for rows in ordered[:-keep]:
        for row in rows:
            yield SupersededRun(
                superseded_by=newest,
                **{
                    name: row[name]
                    for name in SupersededRun.__dataclass_fields__
                    if name != "superseded_by"
                },
            )


def _settings_key(spec: str) -> str:
    """What was asked for, in one spelling and without the revision of the model."""
    try:
        asked = SweepSpec.model_validate_json(spec)
    except ValidationError:
        return spec  # of a version that asked otherwise: alike are those in the same words
    return asked.model_copy(update={"model": _without_revision(asked.model)}).model_dump_json()


def _without_revision(model: str) -> str:
    return model.partition("@")[0] if model.startswith("hub:") else model
