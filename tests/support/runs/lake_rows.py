"""Rows of a lake for tests, in which every column has a plain default."""

import datetime
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from prunelake.analysis.analyse import analysis_of_run
from prunelake.identity import content_hash
from prunelake.lake.commit import write_analysis, write_run
from prunelake.lake.files.verified import VERIFIED_FILE
from prunelake.lake.sql.views import connect, query, select
from prunelake.lake.storage.location import Location
from prunelake.schema.analysis_tables import ANALYSIS_TABLES, ANALYSIS_VERSION
from prunelake.schema.run_tables import RUN_TABLES
from prunelake.schema.table import TableRow
from prunelake.spec import SweepSpec

Rows = Sequence[Mapping[str, Any]]

FEW_REPLICATES = 200
"""Enough for tests that need any interval; `prunelake analyse` uses ten times as many."""

RUN_NAMES = {"model": "tiny", "strategy": "cosine", "task": "demo"}
"""The columns of `run_row` that views show beside each row of a run."""

_analyses: dict[str, tuple[TableRow, dict[str, pl.DataFrame]]] = {}


def identity_of(name: str) -> tuple[str, str]:
    """The identity (JSON) of a run, different for each name, and the run_id that is its hash."""
    identity = {"name": name}
    return json.dumps(identity), content_hash(identity)[:16]


def run_row(name: str = "run", **columns: Any) -> dict[str, Any]:
    """A row of runs, whose run_id is derived from the name."""
    identity, run_id = identity_of(name)
    return {
        "run_id": run_id,
        "created_at": datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
        **RUN_NAMES,
        "revision": "0" * 40,
        "architecture": "llama",
        "split": "test",
        "example_count": 2,
        "levels": [0, 1],
        "layer_count": 4,
        "removal_order": [2, 1],
        "dtype": "float32",
        "device": "cpu",
        "code_version": "0.1.0",
        "spec": SweepSpec(model="tiny", task="demo").model_dump_json(),
        "identity": identity,
        "duration_s": 1.5,
        "forward_tokens": 100,
        "copied": [],
    } | columns


def layer(run_id: str, layer: int = 0, importance: float = 0.5, rank: int = 0) -> dict[str, Any]:
    return {"run_id": run_id, "layer": layer, "importance": importance, "rank": rank}


def example(run_id: str, example_id: str, **columns: Any) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "example_id": example_id,
        "position": 0,
        "prompt": "Is it?",
        "options": ["no", "yes"],
        "gold": 0,
        "prompt_tokens": ["Is", " it", "?"],
    } | columns


def prediction(
    run_id: str, level: int, example_id: str, log_likelihoods: Sequence[float], gold: int = 0
) -> dict[str, Any]:
    """A prediction that follows from the options' log-likelihoods (each option of 2 bytes)."""
    values = list(log_likelihoods)
    is_finite = all(map(math.isfinite, values))
    chosen = values.index(max(values)) if is_finite else 0
    weights = [math.exp(v - max(values)) for v in values] if is_finite else [math.nan]
    return {
        "run_id": run_id,
        "level": level,
        "example_id": example_id,
        "option_log_likelihoods": values,
        "option_bytes": [2] * len(values),
        "gold": gold,
        "prediction": chosen,
        "prediction_norm": chosen,
        "is_correct": chosen == gold,
        "is_correct_norm": chosen == gold,
        "confidence": max(weights) / sum(sorted(weights)),  # as the view orders the sum
    }


def attribution(
    run_id: str,
    level: int,
    example_id: str,
    scores: Sequence[float],
    method: str = "lime",
    seed: int = 0,
) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "level": level,
        "example_id": example_id,
        "method": method,
        "seed": seed,
        "target": 0,
        "scores": [float(score) for score in scores],
    }


def deletion(
    run_id: str, level: int, example_id: str, fraction: float, drop: float, **columns: Any
) -> dict[str, Any]:
    """One point of a deletion curve where the probability falls from 0.75 by `drop`."""
    return {
        "run_id": run_id,
        "level": level,
        "example_id": example_id,
        "method": "lime",
        "seed": 0,
        "operator": "replace",
        "kind": "comprehensiveness",
        "fraction": fraction,
        "top_count": 1,
        "probability_full": 0.75,
        "probability_perturbed": 0.75 - drop,
    } | columns


def frames(**rows: Rows) -> dict[str, pl.DataFrame]:
    """A frame for every table but runs, empty where no rows are given."""
    return {
        name: table.frame([dict(row) for row in rows.get(name, [])])
        for name, table in RUN_TABLES.items()
        if name != "runs"
    }


def write_raw(lake: Location, run: Mapping[str, Any], **rows: Rows) -> str:
    """Write a run with these rows to the lake, without an analysis; its run_id."""
    assert write_run(lake, run, frames(**rows))
    return str(run["run_id"])


def write(
    lake: Location, run: Mapping[str, Any], replicates: int = FEW_REPLICATES, /, **rows: Rows
) -> str:
    """Write a run with these rows and its analysis to the lake; its run_id.

    Equal rows are analysed once per process, whatever the run is called.
    """
    run_id = write_raw(lake, run, **rows)
    names = {"run_id", "created_at", "model", "revision", "task"}
    if '"sequential"' not in run["identity"]:
        names.add("identity")
    others = {name: value for name, value in run.items() if name not in names}
    about = repr((others, replicates, sorted(rows.items()))).replace(run_id, "")
    key = hashlib.sha256(about.encode()).hexdigest()
    if key not in _analyses:
        _analyses[key] = analysis_of_run(lake, run_id, replicates)
    analysis, frames_of = _analyses[key]
    renamed = {name: f.with_columns(run_id=pl.lit(run_id)) for name, f in frames_of.items()}
    write_analysis(lake, analysis | {"run_id": run_id}, renamed)
    return run_id


def small_run(name: str = "run") -> tuple[dict[str, Any], dict[str, pl.DataFrame]]:
    """A run with a row or two in every table."""
    run = run_row(name)
    run_id = str(run["run_id"])
    return run, frames(
        layers=[layer(run_id, 0, 0.5, 1), layer(run_id, 1, 0.25, 0)],
        examples=[example(run_id, "test:0")],
        predictions=[
            prediction(run_id, 0, "test:0", [-1.0, -2.0]),
            prediction(run_id, 1, "test:0", [-2.0, -1.0]),
        ],
        attributions=[attribution(run_id, 0, "test:0", [0.5, -0.25, 0.0])],
        deletions=[deletion(run_id, 0, "test:0", 0.5, 0.25)],
    )


def bound(run_id: str, level: int, example_id: str, **columns: Any) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "level": level,
        "example_id": example_id,
        "operator": "replace",
        "kind": "comprehensiveness",
        "lower": -0.25,
        "upper": 0.5,
        "beam_width": 5,
    } | columns


def text(
    run_id: str, level: int, example_id: str, ids: Sequence[int] = (4, 5), **columns: Any
) -> dict[str, Any]:
    """A measured text with these generated tokens; its prompt has 4 predicted tokens."""
    return {
        "run_id": run_id,
        "level": level,
        "example_id": example_id,
        "prompt_nll": 8.0,
        "predicted_tokens": 4,
        "generated_ids": list(ids),
        "generated": " ".join(map(str, ids)),
    } | columns


def named_level(run_id: str, level: int, label: str, **columns: Any) -> dict[str, Any]:
    """A row of levels: a candidate of a comparison, by default of the model of `run_row`."""
    return {
        "run_id": run_id,
        "level": level,
        "label": label,
        "model": RUN_NAMES["model"],
        "revision": "0" * 40,
        "dtype": "float32",
        "strategy": "",
        "removed_layers": [],
        "weight_bytes": 400,
        "shares_tokens": True,
        "source_run_id": "source",
        "source_level": 0,
    } | columns


def small_analysis(run_id: str, **columns: Any) -> tuple[dict[str, Any], dict[str, pl.DataFrame]]:
    """A row of analyses, and the other analysis tables with at most one row each."""
    row = {
        "run_id": run_id,
        "analysis_version": ANALYSIS_VERSION,
        "analysed_at": datetime.datetime(2026, 1, 3, tzinfo=datetime.UTC),
        "replicates": 10,
        "seed": 0,
        "margin": 0.02,
    } | columns
    cell = {"run_id": run_id, "level": 0, "metric": "accuracy"}
    calibrated = {"run_id": run_id, "level": 0, "calibrator": "temperature"}
    # The attribution of `small_run` with itself.
    explained = {"run_id": run_id, "level": 0, "example_id": "test:0", "method": "lime"}
    common = {name: [3] for name in ("common_5", "common_10", "common_20")}
    pair = {"seed": [0], "other_level": [0], "other_seed": [0], "product": [8.0]}
    rows = {
        "rank_pairs": [explained | pair | common | {"token_count": 3, "squared_norms": [64.0]}],
        "metrics": [cell | dict.fromkeys(("method", "operator", "variant"), "")],
        "looks": [cell | dict.fromkeys(("method", "operator", "variant"), "") | {"look": 1}],
        "recalibrated": [calibrated | {"metric": "ece"}],
        "calibrators": [calibrated],
        "recalibrated_reliability": [calibrated | {"bin": 9}],
    }
    return row, {
        name: table.frame([dict.fromkeys(table.schema) | given for given in rows.get(name, [])])
        for name, table in ANALYSIS_TABLES.items()
        if name != "analyses"
    }


def rows_of(lake: Location, sql: str) -> list[dict[str, Any]]:
    """The rows that a query over the views of the lake returns.

    A connection takes longer than most queries, so it stays open for the next query of the same
    lake, until a file of the lake changes.
    """
    if not isinstance(lake, Path):
        return query(lake, sql).to_dicts()
    seen = (os.getpid(), lake, *sorted(_states(lake)))
    if _open_lake.get("seen") != seen:
        _open_lake.clear()
        _open_lake.update(seen=seen, connection=connect(lake))
    return select(_open_lake["connection"], sql).to_dicts()


_open_lake: dict[str, Any] = {}


def _states(folder: Path) -> Iterator[tuple[str, int, int]]:
    for parent, _, names in os.walk(folder):
        for name in names:
            if name != VERIFIED_FILE:  # a reader writes it
                state = (Path(parent) / name).stat()
                yield f"{parent}/{name}", state.st_mtime_ns, state.st_size
