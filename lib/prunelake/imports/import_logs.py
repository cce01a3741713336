"""Write the logs of several levels as one run: they must have the same examples."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from prunelake.comparison_spec import COMPARISON_STRATEGY
from prunelake.errors import InvalidSpec
from prunelake.identity import content_hash
from prunelake.imports.imported_log import ImportedLog, Sample, difference
from prunelake.imports.imported_run import (
    MAX_LEVEL,
    LabelledFile,
    check_name,
    level_rows,
    named_levels,
    write_imported_run,
)
from prunelake.lake.storage.location import Location
from prunelake.tasks.rows import Example, data_hash


def import_logs(
    folder: Location,
    files: Mapping[int, Path] | Sequence[LabelledFile],
    read_log: Callable[[Path], ImportedLog],
    model: str | None = None,
    strategy: str = "",
) -> tuple[str, bool]:
    """Write logs as one run; return its id, and whether the run is new.

    `files` has the log of each removal level of one model; or the log of a baseline, then those of
    its candidates. Candidates may have other models, number formats and tokenizers.

    Raises:
        InvalidSpec: as `write_logs`.
        PruneLakeError: as `read_log`.
    """
    if isinstance(files, Mapping):
        return write_logs(folder, {n: read_log(path) for n, path in files.items()}, model, strategy)
    if len(files) < 2:
        raise InvalidSpec("no candidate; give at least one by --candidate LABEL=FILE")
    if strategy:
        raise InvalidSpec(f"--strategy {strategy!r} belongs to removal levels, not to candidates")
    logs = {}
    for number, file in enumerate(files):
        log = read_log(file.path)
        logs[number] = replace(
            log,
            model=file.model or log.model,
            revision=file.revision or log.revision,
            dtype=file.dtype or log.dtype,
        )
    return write_logs(folder, logs, model, COMPARISON_STRATEGY, [file.label for file in files])


def write_logs(
    folder: Location,
    logs: Mapping[int, ImportedLog],
    model: str | None = None,
    strategy: str = "",
    labels: Sequence[str] | None = None,
) -> tuple[str, bool]:
    """Write the log of each level as one run; return its id, and whether the run is new.

    `model` is the name of the model; by default the name in the log of level 0. That log also gives
    the revision. With `labels`, one for each level, the levels are candidates.

    Raises:
        InvalidSpec: no level 0, a negative level, no name of a model, a name as in `check_name`, or
            logs of different tasks or examples; a label as in `level_rows`; or without labels, logs
            of different number formats or tokenizers.
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
    if labels is None:
        dtype = _common_dtype(logs)
        _check_same_tokenizer(logs)
    else:
        dtype = unpruned.dtype
    examples = [sample.example for sample in unpruned.samples]
    identity: dict[str, Any] = {
        "source": unpruned.source,
        "model": model,
        "revision": unpruned.revision,
        "strategy": strategy,
        "task": unpruned.task,
        "split": unpruned.split,
        "dtype": dtype,
        "data_hash": data_hash(examples),
        "samples_hash": {str(level): _samples_hash(log) for level, log in logs.items()},
    }
    candidates: list[dict[str, Any]] = []
    if labels is not None:
        candidates = level_rows(
            [
                {
                    "label": label,
                    "model": model if log is unpruned else log.model or model,
                    "revision": log.revision,
                    "dtype": log.dtype,
                }
                for label, log in zip(labels, logs.values(), strict=True)
            ]
        )
        identity["levels"] = named_levels(candidates)
    log_metadata = {
        str(level): {"file": log.file.name, "model": log.model, **log.metadata}
        for level, log in logs.items()
    }
    rows = {
        "examples": [_example_row(place, example) for place, example in enumerate(examples)],
        "predictions": [
            _prediction_row(level, sample) for level, log in logs.items() for sample in log.samples
        ],
        **({"levels": candidates} if candidates else {}),
    }
    return write_imported_run(folder, identity, [*logs], {"levels": log_metadata}, rows)


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


def _common_dtype(logs: Mapping[int, ImportedLog]) -> str:
    dtypes = sorted({log.dtype for log in logs.values() if log.dtype})
    if len(dtypes) > 1:
        raise InvalidSpec(
            f"the levels were computed in {' and '.join(dtypes)}; removal levels have one number "
            "format. Compare number formats by --baseline LABEL=FILE --candidate LABEL=FILE"
        )
    return "".join(dtypes)


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
