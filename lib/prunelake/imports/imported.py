"""Write imported results as a run; the logs of all levels must have the same examples."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, Field

from prunelake.analysis.analyse import analyse
from prunelake.analysis.confidence import option_probabilities
from prunelake.errors import InvalidSpec
from prunelake.lake import commit, read
from prunelake.lake.storage.location import Location
from prunelake.schema.run_tables import RUN_TABLES, RUNS
from prunelake.schema.table import FORMAT_VERSION
from prunelake.spec import content_hash
from prunelake.tasks.rows import Example, data_hash

MAX_LEVEL = 2**31 - 1  # the lake keeps 32 bits
MASK_FILL = -1e30  # nats; programs write lower numbers, like -3.4e38, in place of -inf
IDENTITY_COLUMNS = ("model", "revision", "strategy", "task", "split", "dtype")


def _encodable(value: Any) -> Any:
    """Reject half a surrogate pair, which JSON can hold and UTF-8 cannot."""
    json.dumps(value, ensure_ascii=False).encode()
    return value


EncodableText = Annotated[str, AfterValidator(_encodable)]
EncodableValue = Annotated[Any, AfterValidator(_encodable)]


def _log_likelihood(value: float) -> float:
    if not value <= 1e-3:
        raise ValueError(
            f"{value} is no log-likelihood: it should be at most 0 (or rounding, 0.001)"
        )
    return value if value > MASK_FILL else -math.inf


LogProbability = Annotated[float, Field(strict=True), AfterValidator(_log_likelihood)]
"""A log-likelihood in nats: a number, not text. -inf is an impossible event.

Rounding may leave a certain event slightly above 0. A number below `MASK_FILL` becomes -inf.
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """One example of a log.

    - `log_likelihoods`: one number or -inf in nats for each option, or None if one is missing. The
      view `excluded` shows samples with -inf or without numbers, and no metric uses them.
    - `option_bytes`: the size of each option in UTF-8.
    - `source_hash`: identifies the row of the dataset.
    - `answer`: the index of the chosen option, if the log names it but has no log-likelihoods.
    """

    example: Example
    log_likelihoods: tuple[float, ...] | None
    option_bytes: tuple[int, ...]
    source_hash: str
    answer: int | None = None

    @property
    def prediction(self) -> int | None:
        """The option of the highest log-likelihood; a tie goes to the first."""
        if self.log_likelihoods is None:
            return self.answer
        return int(np.argmax(self.log_likelihoods))

    @property
    def prediction_norm(self) -> int | None:
        """The option of the highest log-likelihood per byte; a tie goes to the first."""
        if self.log_likelihoods is None:
            return None
        return int(np.argmax(np.divide(self.log_likelihoods, self.option_bytes)))

    @property
    def confidence(self) -> float | None:
        """The softmax over the log-likelihoods, at the predicted option; None if one is -inf."""
        if self.log_likelihoods is None or -math.inf in self.log_likelihoods:
            return None
        return float(option_probabilities(np.array(self.log_likelihoods)).max())


@dataclass(frozen=True, slots=True)
class ImportedLog:
    """The log of one model on one task; fields that the log lacks are empty.

    - `samples`: in the order of the dataset's rows.
    - `tokenizer`: any text that differs between tokenizers.
    - `metadata`: further fields of the log, stored unchanged.
    """

    file: Path
    source: str
    task: str
    split: str
    model: str
    revision: str
    dtype: str
    samples: tuple[Sample, ...]
    tokenizer: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)


def write_logs(
    folder: Location, logs: Mapping[int, ImportedLog], model: str | None = None, strategy: str = ""
) -> tuple[str, bool]:
    """Write the log of each level as one run; return its id, and whether the run is new.

    `model` is the name of the model; by default the name in the log of level 0. That log also gives
    the revision.

    Raises:
        InvalidSpec: no level 0, a negative level, no name of a model, or logs of different tasks,
            number formats, tokenizers or examples.
        LakeError: the lake cannot be written.
    """
    if 0 not in logs or not 0 <= min(logs) <= max(logs) <= MAX_LEVEL:
        raise InvalidSpec(
            f"levels {', '.join(map(str, sorted(logs))) or 'none'}: an import needs level 0, the "
            f"unpruned model, and levels from 1 to {MAX_LEVEL}"
        )
    logs = dict(sorted(logs.items()))
    unpruned = logs[0]
    model = model or unpruned.model
    if not model:
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


def write_imported_run(
    folder: Location,
    identity: Mapping[str, Any],
    levels: Sequence[int],
    metadata: Mapping[str, Any],
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
) -> tuple[str, bool]:
    """Write and analyse one run; return its id, and whether the run is new.

    Args:
        folder: the lake.
        identity: source, model, strategy, task and everything else that determines the rows;
            missing columns of `IDENTITY_COLUMNS` are empty.
        levels: the levels of the run.
        metadata: stored as the spec of the run.
        rows: the rows of each table that has any, without run_id.

    Raises:
        LakeError: the lake cannot be written.
    """
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
        name: table.frame([{"run_id": run_id, **row} for row in rows.get(name, ())])
        for name, table in RUN_TABLES.items()
        if table is not RUNS and (name in rows or not table.is_optional)
    }
    is_new = commit.write_run(folder, run, frames)
    if is_new or run_id in read.unanalysed_run_ids(folder):
        analyse(folder, run_id)
    return run_id, is_new


def _check_same_examples(unpruned: ImportedLog, log: ImportedLog) -> None:
    if log.task != unpruned.task:
        raise InvalidSpec(
            f"{unpruned.file} belongs to task {unpruned.task!r}, {log.file} to task {log.task!r}; "
            "one run has one task"
        )
    for ours, theirs in zip(unpruned.samples, log.samples, strict=False):
        if (ours.source_hash, ours.example) != (theirs.source_hash, theirs.example):
            raise InvalidSpec(
                f"{log.file} has other examples than {unpruned.file}; the first rows that "
                f"differ are {theirs.example.example_id} and {ours.example.example_id}: give logs "
                "of the same rows, prompts and options"
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
