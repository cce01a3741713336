"""Write imported results as a run, and name the levels of candidates."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl

from prunelake.analysis.analyse import analyse
from prunelake.errors import InvalidSpec, shortened
from prunelake.identity import content_hash
from prunelake.lake import commit, read
from prunelake.lake.storage.location import Location
from prunelake.schema.run_tables import RUN_TABLES, RUNS
from prunelake.schema.table import FORMAT_VERSION, Table

MAX_LEVEL = 2**31 - 1  # the lake keeps 32 bits
IDENTITY_COLUMNS = ("model", "revision", "strategy", "task", "split", "dtype")


@dataclass(frozen=True)
class LabelledFile:
    """A file with the results of one model, which becomes a level with a label.

        LabelledFile("int8", Path("int8.csv"), dtype="int8")

    `label` is the name of the level in tables and charts. Empty fields are those of the file if it
    has them; an unknown model is that of the baseline.
    """

    label: str
    path: Path
    model: str = ""
    revision: str = ""
    dtype: str = ""


def check_name(name: str, value: str) -> None:
    """Check the name of a model, task or strategy; `name` says which it is.

    Raises:
        InvalidSpec: it has a line break or another character that cannot be printed.
    """
    if not value.isprintable():
        raise InvalidSpec(
            f"{name} {shortened(value)!r} has a line break or another character that cannot be "
            "printed; write it in one line"
        )


def write_imported_run(
    folder: Location,
    identity: Mapping[str, Any],
    levels: Sequence[int],
    metadata: Mapping[str, Any],
    rows: Mapping[str, Sequence[Mapping[str, Any]] | pl.DataFrame],
) -> tuple[str, bool]:
    """Write and analyse one run; return its id, and whether the run is new.

    Args:
        folder: the lake.
        identity: source, model, strategy, task and everything else that determines the rows;
            missing columns of `IDENTITY_COLUMNS` are empty.
        levels: the levels of the run.
        metadata: stored as the spec of the run.
        rows: the rows of each table that has any, as mappings or as a frame, without run_id.

    Raises:
        InvalidSpec: as `check_name`.
        LakeError: the lake cannot be written.
    """
    for name in IDENTITY_COLUMNS:
        check_name(name, identity.get(name, ""))
    identity = {"kind": "import", "format_version": FORMAT_VERSION, **identity}
    run_id = content_hash(identity)[:16]
    run = {
        "run_id": run_id,
        "created_at": datetime.now(UTC),
        **{name: identity.get(name, "") for name in IDENTITY_COLUMNS},
        "architecture": "",
        "example_count": len(rows.get("examples", ())),
        "levels": [*levels],
        "layer_count": None,
        "removal_order": [],
        "device": "imported",
        "code_version": version("prunelake"),
        "spec": json.dumps({"source": identity["source"], **metadata}, sort_keys=True),
        "identity": json.dumps(identity, sort_keys=True),
        "duration_s": 0.0,
        "forward_tokens": 0,
        "copied": [],
    }
    frames = {
        name: _frame(table, run_id, rows.get(name, ()))
        for name, table in RUN_TABLES.items()
        if table is not RUNS and (name in rows or not table.is_optional)
    }
    is_new = commit.write_run(folder, run, frames)
    if is_new or run_id in read.unanalysed_run_ids(folder):
        analyse(folder, run_id)
    return run_id, is_new


def level_rows(levels: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """The rows of `levels` of an import whose levels are candidates; the first is the baseline.

    Each of `levels` has label, model, revision and dtype.

    Raises:
        InvalidSpec: an empty or repeated label, or a name as in `check_name`.
    """
    labels = [level["label"] for level in levels]
    for level in levels:
        for name, value in level.items():
            check_name(name, value)
        if not level["label"].strip() or labels.count(level["label"]) > 1:
            raise InvalidSpec(
                f"label {level['label']!r}: give every level a name of its own; they are "
                + ", ".join(map(repr, labels))
            )
    unknown = {"removed_layers": None, "weight_bytes": None, "shares_tokens": None}
    origin = {"strategy": "", "source_run_id": "", "source_level": None}
    return [{"level": number, **level, **unknown, **origin} for number, level in enumerate(levels)]


def named_levels(levels: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The part of the identity of a run that its rows of `levels` determine."""
    return [[row[name] for name in ("label", "model", "revision", "dtype")] for row in levels]


def _frame(
    table: Table, run_id: str, rows: Sequence[Mapping[str, Any]] | pl.DataFrame
) -> pl.DataFrame:
    if isinstance(rows, pl.DataFrame):
        return rows.with_columns(run_id=pl.lit(run_id)).select(*table.schema)
    return table.frame([{"run_id": run_id, **row} for row in rows])
