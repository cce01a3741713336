"""Sample logs of lm-evaluation-harness (`--log_samples`), multiple choice."""

import hashlib
import json
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from prunelake.errors import BadRow, InvalidSpec, one_line, validation_message
from prunelake.imports.imported import (
    EncodableText,
    EncodableValue,
    ImportedLog,
    LogProbability,
    Sample,
    write_logs,
)
from prunelake.lake.storage import Location
from prunelake.tasks.hub import read_json_lines
from prunelake.tasks.rows import OPTION_DELIMITER, Example

SOURCE = "lm-evaluation-harness"
SPECIAL_TOKEN_KEYS = ("tokenizer_bos_token", "tokenizer_eos_token")  # padding changes no number
SAMPLES_FILE_PATTERN = re.compile(
    r"samples_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT[\d.-]+)\.jsonl(\.gz)?"
)


def _arguments_as_lists(value: Any) -> Any:
    """`{gen_args_0: {arg_0: ..., arg_1: ...}}`, which the harness writes, as lists."""
    if isinstance(value, dict):
        return [[*v.values()] if isinstance(v, dict) else v for v in value.values()]
    return value


class HarnessSample(BaseModel):
    """The columns of a logged sample that are read; others may stand beside them."""

    doc_id: Annotated[int, Field(ge=0)]
    doc: Any = None
    target: EncodableValue
    arguments: Annotated[
        list[tuple[EncodableText, EncodableText]],
        BeforeValidator(_arguments_as_lists),
        Field(min_length=2),
    ]
    filtered_resps: Annotated[list[tuple[LogProbability, Any]], Field(min_length=2)]
    doc_hash: EncodableText
    prompt_hash: str | None = None
    target_hash: str | None = None
    acc: float
    acc_norm: float | None = None
    acc_bytes: float | None = None
    acc_mutual_info: float | None = None


def import_harness(
    lake: Location,
    paths: Mapping[int, Path],
    model: str | None = None,
    strategy: str = "",
    task: str | None = None,
) -> tuple[str, bool]:
    """Write the logs of each level as one run; its run_id, and whether the lake lacked it.

    Raises:
        InvalidSpec, BadRow: as `read_harness` and `write_logs`.
        LakeError: the lake cannot be written.
    """
    logs = {level: read_harness(path, task) for level, path in paths.items()}
    return write_logs(lake, logs, model, strategy)


def read_harness(path: Path, task: str | None = None) -> ImportedLog:
    """The log at `path`: a `samples_<task>_<date>.jsonl`, or a folder with one of them a task.

    `results_<date>.json` beside it tells model, number type, tokenizer and split; without it they
    are empty.
    An option's size leaves out the delimiter before it, as in the harness. The lake's accuracy is
    the harness's `acc`, its accuracy_norm the harness's `acc_bytes`; the harness's `acc_norm`
    divides by characters, the same where options are ASCII.

    Raises:
        InvalidSpec: no such file, several that could be meant, or no task's name.
        BadRow: rows that are no samples of one multiple-choice task, contradict their own hashes
            or scores, or have a log-likelihood that is no finite number.
    """
    path = _samples_file(path, task)
    match = SAMPLES_FILE_PATTERN.fullmatch(path.name)
    named = match["task"] if match else None
    if named is None and task is None:
        raise InvalidSpec(f"{path} is not named samples_<task>_<date>.jsonl; give --task")
    if None not in (task, named) and task != named:
        raise InvalidSpec(f"{path} is of task {named!r}, not of {task!r}")
    task = task or named or ""
    results = _read_results(path, match["date"]) if match else {}
    rows = _rows(path)
    _check_hashes(path, rows, results.get("task_hashes", {}).get(task))
    rows = sorted(rows, key=lambda row: row.doc_id)
    settings = results.get("configs", {}).get(task, {})
    config = results.get("config", {})
    split = settings.get("test_split") or settings.get("validation_split") or ""
    delimiter = settings.get("target_delimiter", OPTION_DELIMITER)
    return ImportedLog(
        file=path,
        source=SOURCE,
        task=task,
        split=split,
        model=results.get("model_name") or "",
        revision=config.get("model_sha") or "",
        dtype=(config.get("model_dtype") or "").removeprefix("torch."),
        samples=tuple(_samples(path, rows, split, delimiter)),
        tokenizer=_tokenizer(results),
        metadata={
            "lm_eval_version": results.get("lm_eval_version"),
            "task_version": results.get("versions", {}).get(task),
            "n_shot": results.get("n-shot", {}).get(task),
        },
    )


def _samples_file(path: Path, task: str | None) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise InvalidSpec(f"no file or folder {path}; give what lm_eval --log_samples wrote")
    matches = [
        match for p in sorted(path.iterdir()) if (match := SAMPLES_FILE_PATTERN.fullmatch(p.name))
    ]
    fitting = [match.string for match in matches if task in (None, match["task"])]
    if len(fitting) == 1:
        return path / fitting[0]
    if fitting:
        raise InvalidSpec(f"{path} has {', '.join(fitting)}; give one of the files, or --task")
    there = (
        f"those there are of {', '.join(m['task'] for m in matches)}" if matches else "it has none"
    )
    raise InvalidSpec(f"{path}: no samples_{task or '<task>'}_<date>.jsonl; {there}")


def _read_results(samples: Path, date: str) -> dict[str, Any]:
    """What the harness wrote beside the samples of the same date, if it is still there."""
    path = samples.with_name(f"results_{date}.json")
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise BadRow(f"{path}: not JSON ({one_line(error)}); restore or move it") from error
    parts = ("config", "configs", "versions", "n-shot", "task_hashes")
    if not isinstance(value, dict) or not all(isinstance(value.get(p, {}), dict) for p in parts):
        raise BadRow(f"{path}: not the results of lm-evaluation-harness; restore or move it")
    return value


def _tokenizer(results: Mapping[str, Any]) -> str:
    """Special tokens and their numbers: the harness tells no more that differs by tokenizer."""
    told = {name: results[name] for name in SPECIAL_TOKEN_KEYS if name in results}
    return json.dumps(told, sort_keys=True) if told else ""


def _rows(path: Path) -> list[HarnessSample]:
    rows: list[HarnessSample] = []
    seen: set[int] = set()
    try:
        values = [*read_json_lines(path)]
    except (OSError, EOFError, zlib.error, RecursionError) as error:
        raise BadRow(f"{path} cannot be read: {one_line(error)}") from error
    if not values:
        raise BadRow(f"{path} has no rows")
    for number, value in enumerate(values):
        try:
            row = HarnessSample.model_validate(value)
        except ValidationError as error:
            problem = validation_message(error.errors()[:1], whole="row")
            raise BadRow(
                f"{path}, row {number}, {problem}; it takes the samples of a "
                "multiple-choice task, with acc"
            ) from error
        if row.doc_id in seen:
            raise BadRow(
                f"{path}, row {number}: doc_id {row.doc_id} for the second time; it takes one task "
                "under one filter"
            )
        if rows and _doc_columns(row) != _doc_columns(rows[0]):
            raise BadRow(f"{path}, row {number}: doc has other columns than row 0; mixed tasks?")
        seen.add(row.doc_id)
        rows.append(row)
    return rows


def _doc_columns(row: HarnessSample) -> list[str] | None:
    return sorted(row.doc) if isinstance(row.doc, dict) else None


def _check_hashes(path: Path, rows: Sequence[HarnessSample], task_hash: str | None) -> None:
    """Hold the rows, in the order of the file, to the hashes that the harness gave them."""
    for row in rows:
        texts = (row.arguments[0][0], row.prompt_hash), (str(row.target), row.target_hash)
        for text, expected in texts:
            if expected is not None and _sha256(text) != expected:
                raise BadRow(f"{path}, doc_id {row.doc_id}: {text[:40]!r} is not what was hashed")
    parts = (part for r in rows for part in (r.doc_hash, r.prompt_hash or "", r.target_hash or ""))
    if task_hash is not None and _sha256("".join(parts)) != task_hash:
        raise BadRow(
            f"{path}: its {len(rows)} rows are not those of the results file beside it "
            "(task_hashes differs); restore the file"
        )


def _samples(path: Path, rows: Sequence[HarnessSample], split: str, delimiter: str) -> list[Sample]:
    questions = []
    for row in rows:
        where = f"{path}, doc_id {row.doc_id}"
        arguments, answers = row.arguments, row.filtered_resps
        if len(arguments) != len(answers):
            raise BadRow(f"{where}: {len(answers)} answers for {len(arguments)} options")
        if row.acc_mutual_info is not None:
            # The second half asks for the options without the prompt.
            arguments, answers = arguments[: len(answers) // 2], answers[: len(answers) // 2]
        if len({prompt for prompt, _ in arguments}) > 1:
            raise BadRow(f"{where}: each option has a prompt of its own, so gold is not logged")
        bare = [option.removeprefix(delimiter) for _, option in arguments]
        if not all(bare):
            raise BadRow(f"{where}: an option is empty")
        questions.append((row, bare, [option for _, option in arguments], answers))
    golds = _gold_options(
        path, [(row, bare, _predicted_option(answers)) for row, bare, _, answers in questions]
    )
    samples = []
    for gold, (row, bare, options, answers) in zip(golds, questions, strict=True):
        sample = Sample(
            example=Example(
                example_id=f"{split or 'doc'}:{row.doc_id}",
                prompt=row.arguments[0][0],
                options=tuple(options),
                gold=gold,
            ),
            log_likelihoods=tuple(value for value, _ in answers),
            option_bytes=tuple(len(option.encode()) for option in bare),
            source_hash=row.doc_hash,
        )
        by_character = np.divide([v for v, _ in answers], [len(option) for option in bare])
        _check_score(path, row, "acc_bytes", row.acc_bytes, sample.prediction_norm, gold)
        _check_score(path, row, "acc_norm", row.acc_norm, int(np.argmax(by_character)), gold)
        samples.append(sample)
    return samples


def _predicted_option(answers: Sequence[tuple[float, Any]]) -> int:
    return int(np.argmax([value for value, _ in answers]))


def _gold_options(
    path: Path, questions: Sequence[tuple[HarnessSample, list[str], int]]
) -> list[int]:
    """The right option of each row.

    The target is an option's number or its text; the log does not say which, and an option may be
    the text `1`. One task reads all its targets alike, so it is the reading that fits all of acc.
    """

    def read(reading: Callable[[str, list[str]], int]) -> list[int]:
        golds = []
        for row, options, prediction in questions:
            gold = reading(str(row.target).strip(), options)
            if gold < 0:
                raise BadRow(
                    f"{path}, doc_id {row.doc_id}: target {row.target!r} is not one of "
                    f"{', '.join(options)}, nor the number of one"
                )
            _check_score(path, row, "acc", row.acc, prediction, gold)
            golds.append(gold)
        return golds

    fitting: list[list[int]] = []
    refusals: list[BadRow] = []
    for reading in (_by_number, _by_text):
        try:
            golds = read(reading)
        except BadRow as refusal:
            refusals.append(refusal)
        else:
            if golds not in fitting:
                fitting.append(golds)
    if len(fitting) > 1:
        raise BadRow(f"{path}: targets may be numbers or texts of options, and acc fits both")
    if not fitting:
        are_numbers = all(
            _by_number(str(row.target), options) >= 0 for row, options, _ in questions
        )
        raise refusals[0 if are_numbers else 1]
    return fitting[0]


def _by_number(target: str, options: list[str]) -> int:
    is_number = target.isascii() and target.isdecimal() and int(target) < len(options)
    return int(target) if is_number else -1


def _by_text(target: str, options: list[str]) -> int:
    texts = [option.strip() for option in options]
    return texts.index(target) if target in texts else -1


def _check_score(
    path: Path,
    row: HarnessSample,
    name: str,
    logged: float | None,
    prediction: int | None,
    gold: int,
) -> None:
    if logged is not None and logged != (prediction == gold):
        raise BadRow(
            f"{path}, doc_id {row.doc_id}: {name} is {logged:g}, but the log-likelihoods predict "
            f"option {prediction} and the target is option {gold}"
        )


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
