"""Write imported results as a run; the logs of all levels must have the same examples."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import polars as pl

from prunelake.analysis.analyse import analyse
from prunelake.errors import InvalidSpec, shortened
from prunelake.identity import content_hash
from prunelake.imports.imported_log import ImportedLog, Sample, difference
from prunelake.lake import commit, read
from prunelake.lake.storage.location import Location
from prunelake.schema.run_tables import RUN_TABLES, RUNS
from prunelake.schema.table import FORMAT_VERSION, Table
from prunelake.tasks.rows import Example, data_hash

MAX_LEVEL = 2**31 - 1  # the lake keeps 32 bits
IDENTITY_COLUMNS = ("model", "revision", "strategy", "task", "split", "dtype")


def write_logs(
    folder: Location, logs: Mapping[int, ImportedLog], model: str | None = None, strategy: str = ""
) -> tuple[str, bool]:
    """Write the log of each level as one run; return its id, and whether the run is new.

    `model` is the name of the model; by default the name in the log of level 0. That log also gives
    the revision.

    Raises:
        InvalidSpec: no level 0, a negative level, no name of a model, a name as in `check_name`, or
            logs of different tasks, number formats, tokenizers or examples.
        LakeError: the lake cannot be written.
    """
    if 0 not in logs or not 0 <= min(logs) <= max(logs) <= MAX_LEVEL:
        raise InvalidSpec(
            f"levels {', '.join(map(str, sorted(logs))) or 'none'}: an import needs level 0, the "
            f"unpruned model, and levels from 1 to {MAX_LEVEL}"
        )
    logs = dict(sorted(logs.items()))
    unpruned = logs[0]
    if model is None:
        check_name(f"{unpruned.file}: model", unpruned.model)
    model = model or unpruned.model
    if not model.strip():
        raise InvalidSpec(f"{unpruned.file} does not name its model; give --model")
    for log in logs.values():
        _check_same_examples(unpruned, log)
    dtypes = sorted({log.dtype for log in logs.values() if log.dtype})
    if len(dtypes) > 1:
        raise InvalidSpec(
            f"the levels were computed in {' and '.join(dtypes)}; one run compares levels of one "
            "number format"
        )
    _check_same_tokenizer(logs)
    examples = [sample.example for sample in unpruned.samples]
    identity = {
        "source": unpruned.source,
        "model": model,
        "revision": unpruned.revision,
        "strategy": strategy,
        "task": unpruned.task,
        "split": unpruned.split,
        "dtype": "".join(dtypes),
        "data_hash": data_hash(examples),
        "samples_hash": {str(level): _samples_hash(log) for level, log in logs.items()},
    }
    log_metadata = {
        str(level): {"file": log.file.name, "model": log.model, **log.metadata}
        for level, log in logs.items()
    }
    rows = {
        "examples": [_example_row(place, example) for place, example in enumerate(examples)],
        "predictions": [
            _prediction_row(level, sample) for level, log in logs.items() for sample in log.samples
        ],
    }
    return write_imported_run(folder, identity, [*logs], {"levels": log_metadata}, rows)


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


def _frame(
    table: Table, run_id: str, rows: Sequence[Mapping[str, Any]] | pl.DataFrame
) -> pl.DataFrame:
    if isinstance(rows, pl.DataFrame):
        return rows.with_columns(run_id=pl.lit(run_id)).select(*table.schema)
    return table.frame([{"run_id": run_id, **row} for row in rows])


def _check_same_examples(unpruned: ImportedLog, log: ImportedLog) -> None:
    if log.task != unpruned.task:
        raise InvalidSpec(
            f"{unpruned.file} belongs to task {unpruned.task!r}, {log.file} to task {log.task!r}; "
            "one run has one task"
        )
    for ours, theirs in zip(unpruned.samples, log.samples, strict=False):
        if problem := difference(theirs, ours):
            raise InvalidSpec(
                f"{log.file} has other examples than {unpruned.file}: {theirs.example.example_id} "
                f"is the first that differs, in its {problem}. Give logs of the same rows, "
                "prompts and options"
            )
    if len(log.samples) != len(unpruned.samples):
        raise InvalidSpec(
            f"{log.file} has {len(log.samples)} examples, {unpruned.file} has "
            f"{len(unpruned.samples)}: give logs of the same rows"
        )


def _check_same_tokenizer(logs: Mapping[int, ImportedLog]) -> None:
    known = {level: log for level, log in logs.items() if log.tokenizer}
    for level, log in known.items():
        first = min(known)
        if log.tokenizer != known[first].tokenizer:
            raise InvalidSpec(
                f"{log.file}: level {level} was tokenised with {log.tokenizer}, level {first} "
                f"with {known[first].tokenizer}; one run compares levels of one tokenizer"
            )


def _samples_hash(log: ImportedLog) -> str:
    return content_hash([[s.source_hash, s.log_likelihoods, s.option_bytes] for s in log.samples])


def _example_row(position: int, example: Example) -> dict[str, Any]:
    return {
        "example_id": example.example_id,
        "position": position,
        "prompt": example.prompt,
        "options": [*example.options],
        "gold": example.gold,
        "prompt_tokens": [],
    }


def _prediction_row(level: int, sample: Sample) -> dict[str, Any]:
    gold, norm = sample.example.gold, sample.prediction_norm
    return {
        "level": level,
        "example_id": sample.example.example_id,
        "option_log_likelihoods": sample.log_likelihoods,
        "option_bytes": sample.option_bytes,
        "gold": gold,
        "prediction": sample.prediction,
        "prediction_norm": norm,
        "is_correct": sample.prediction == gold,
        "is_correct_norm": None if norm is None else norm == gold,
        "confidence": sample.confidence,
    }
