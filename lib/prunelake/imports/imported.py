"""What every imported log becomes: one run, whose levels are logs of the same examples."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from prunelake import lake
from prunelake.errors import InvalidSpec
from prunelake.spec import content_hash
from prunelake.tables import ATTRIBUTIONS, DELETIONS, EXAMPLES, FORMAT_VERSION, LAYERS, PREDICTIONS
from prunelake.tasks import Example, data_hash


@dataclass(frozen=True, slots=True)
class Sample:
    """One example of a log.

    `log_likelihoods` are in nats and finite, one an option, or None where the log lacks any: then
    `answer` is the option that the log says was chosen, if one was. `option_bytes` are sizes in
    UTF-8; `source_hash` names the dataset row it was made from.
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
        """Softmax over the options, of the predicted one."""
        if self.log_likelihoods is None:
            return None
        # Shifted by the maximum, which is the predicted option's, its own exponential is 1.
        return float(1 / np.exp(np.array(self.log_likelihoods) - max(self.log_likelihoods)).sum())


@dataclass(frozen=True, slots=True)
class Imported:
    """One log: one model on one task. What the log does not tell is an empty text.

    `samples` are in the order of the dataset's rows; `about` is what else the log says of itself,
    to be kept as it is.
    """

    file: Path
    source: str
    task: str
    split: str
    model: str
    revision: str
    dtype: str
    samples: tuple[Sample, ...]
    about: Mapping[str, Any] = field(default_factory=dict)


def write_imported(
    folder: Path, logs: Mapping[int, Imported], model: str | None = None, strategy: str = ""
) -> tuple[str, bool]:
    """Write logs of the same examples, by level, as one run; its run_id, and whether it is new.

    The model is named by `model`, else by the log of level 0, and so is the revision.

    Raises:
        InvalidSpec: no level 0, a negative level, no model's name, or logs of different tasks,
            number types or examples.
        LakeError: the lake cannot be written.
    """
    if 0 not in logs or min(logs) < 0:
        raise InvalidSpec(
            f"levels {', '.join(map(str, sorted(logs))) or 'none'}: an import needs level 0, the "
            "unpruned model, and beside it levels above 0 only"
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
            "number type"
        )
    examples = [sample.example for sample in unpruned.samples]
    identity = {
        "kind": "import",
        "format_version": FORMAT_VERSION,
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
    run_id = content_hash(identity)[:16]
    about = {
        str(level): {"file": log.file.name, "model": log.model, **log.about}
        for level, log in logs.items()
    }
    run = {
        "run_id": run_id,
        "created_at": datetime.now(UTC),
        "model": model,
        "revision": unpruned.revision,
        "architecture": "",
        "strategy": strategy,
        "task": unpruned.task,
        "split": unpruned.split,
        "example_count": len(examples),
        "levels": [*logs],
        "layer_count": None,
        "removal_order": [],
        "dtype": "".join(dtypes),
        "device": "imported",
        "code_version": version("prunelake"),
        "spec": json.dumps({"source": unpruned.source, "levels": about}, sort_keys=True),
        "identity": json.dumps(identity, sort_keys=True),
        "duration_s": 0.0,
        "forward_tokens": 0,
    }
    frames = {
        "layers": LAYERS.frame([]),
        "examples": EXAMPLES.frame(
            [_example_row(run_id, place, example) for place, example in enumerate(examples)]
        ),
        "predictions": PREDICTIONS.frame(
            [
                _prediction_row(run_id, level, sample)
                for level, log in logs.items()
                for sample in log.samples
            ]
        ),
        "attributions": ATTRIBUTIONS.frame([]),
        "deletions": DELETIONS.frame([]),
    }
    return run_id, lake.write_run(folder, run, frames)


def _check_same_examples(unpruned: Imported, log: Imported) -> None:
    if log.task != unpruned.task:
        raise InvalidSpec(
            f"{unpruned.file} is of task {unpruned.task!r}, {log.file} of task {log.task!r}; one "
            "run is of one task"
        )
    for ours, theirs in zip(unpruned.samples, log.samples, strict=False):
        if (ours.source_hash, ours.example) != (theirs.source_hash, theirs.example):
            raise InvalidSpec(
                f"{log.file} has other examples than {unpruned.file}; the first that differs is "
                f"{theirs.example.example_id} beside {ours.example.example_id}: give logs of the "
                "same rows, prompts and options"
            )
    if len(log.samples) != len(unpruned.samples):
        raise InvalidSpec(
            f"{log.file} has {len(log.samples)} examples, {unpruned.file} has "
            f"{len(unpruned.samples)}: give logs of the same rows"
        )


def _samples_hash(log: Imported) -> str:
    return content_hash([[s.source_hash, s.log_likelihoods, s.option_bytes] for s in log.samples])


def _example_row(run_id: str, position: int, example: Example) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "example_id": example.example_id,
        "position": position,
        "prompt": example.prompt,
        "options": [*example.options],
        "gold": example.gold,
        "prompt_tokens": [],
    }


def _prediction_row(run_id: str, level: int, sample: Sample) -> dict[str, Any]:
    gold, norm = sample.example.gold, sample.prediction_norm
    return {
        "run_id": run_id,
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
