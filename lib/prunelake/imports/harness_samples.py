"""The samples in a log of lm-evaluation-harness: read the rows, check them, find gold options."""

import hashlib
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from prunelake.errors import BadRow, one_line, shortened, validation_message
from prunelake.imports.imported_log import EncodableText, EncodableValue, LogProbability, Sample
from prunelake.tasks.hub import read_json_lines
from prunelake.tasks.rows import Example


def _arguments_as_lists(value: Any) -> Any:
    """The harness's `{gen_args_0: {arg_0: ..., arg_1: ...}}` as a list of lists."""
    if isinstance(value, dict):
        return [[*v.values()] if isinstance(v, dict) else v for v in value.values()]
    return value


def _number(value: Any) -> Any:
    """The number in a text like `"-1.5"`: the harness writes its log-likelihoods as text."""
    return float(value) if isinstance(value, str) and "_" not in value else value


HarnessLogLikelihood = Annotated[LogProbability, BeforeValidator(_number)]


class HarnessSample(BaseModel):
    """The columns of a logged sample that an import reads; a log has more."""

    doc_id: Annotated[int, Field(ge=0)]
    doc: Any = None
    target: EncodableValue
    arguments: Annotated[
        list[tuple[EncodableText, EncodableText]],
        BeforeValidator(_arguments_as_lists),
        Field(min_length=2),
    ]
    filtered_resps: Annotated[list[tuple[HarnessLogLikelihood, Any]], Field(min_length=2)]
    doc_hash: EncodableText
    prompt_hash: str | None = None
    target_hash: str | None = None
    acc: float
    acc_norm: float | None = None
    acc_bytes: float | None = None
    acc_mutual_info: float | None = None


def read_rows(path: Path) -> list[HarnessSample]:
    """The rows of a log, in the order of the file.

    Raises:
        BadRow: a file that cannot be read or is empty, or rows that are not samples of one
            multiple-choice task.
    """
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
                f"{path}, row {number}, {problem}; an import needs samples of a "
                "multiple-choice task, with acc"
            ) from error
        if row.doc_id in seen:
            raise BadRow(
                f"{path}, row {number}: doc_id {row.doc_id} appears twice; import one task under "
                "one filter"
            )
        if rows and _doc_columns(row) != _doc_columns(rows[0]):
            raise BadRow(f"{path}, row {number}: doc has other columns than row 0; import one task")
        seen.add(row.doc_id)
        rows.append(row)
    return rows


def _doc_columns(row: HarnessSample) -> list[str] | None:
    return sorted(row.doc) if isinstance(row.doc, dict) else None


def check_hashes(path: Path, rows: Sequence[HarnessSample], task_hash: str | None) -> None:
    """Compare rows, in file order, with the hash of each row and the hash of the task.

    Raises:
        BadRow: a hash differs.
    """
    for row in rows:
        texts = (row.arguments[0][0], row.prompt_hash), (str(row.target), row.target_hash)
        for text, expected in texts:
            if expected is not None and _sha256(text) != expected:
                raise BadRow(f"{path}, doc_id {row.doc_id}: {text[:40]!r} does not match its hash")
    parts = (part for r in rows for part in (r.doc_hash, r.prompt_hash or "", r.target_hash or ""))
    if task_hash is not None and _sha256("".join(parts)) != task_hash:
        raise BadRow(
            f"{path}: its {len(rows)} rows do not match the results file beside it (task_hashes "
            "differs); restore the file"
        )


def build_samples(
    path: Path, rows: Sequence[HarnessSample], split: str, delimiter: str
) -> list[Sample]:
    """The samples of rows; `delimiter` stands between prompt and option.

    Raises:
        BadRow: a row that is not multiple choice, or that contradicts its own scores; or no row
            with a finite log-likelihood of each option.
    """
    questions = []
    for row in rows:
        where = f"{path}, doc_id {row.doc_id}"
        arguments, answers = row.arguments, row.filtered_resps
        if len(arguments) != len(answers):
            raise BadRow(f"{where}: {len(answers)} answers for {len(arguments)} options")
        if row.acc_mutual_info is not None:
            # The second half scores the options without the prompt.
            arguments, answers = arguments[: len(answers) // 2], answers[: len(answers) // 2]
        if len({prompt for prompt, _ in arguments}) > 1:
            raise BadRow(
                f"{where}: each option has its own prompt, so the log lacks the gold option"
            )
        texts = [option.removeprefix(delimiter) for _, option in arguments]
        if not all(texts):
            raise BadRow(f"{where}: an option is empty")
        if len({text.strip() for text in texts}) == 1:
            raise BadRow(f"{where}: all {len(texts)} options are {shortened(texts[0])!r}")
        questions.append((row, texts, [option for _, option in arguments], answers))
    golds = _gold_options(
        path, [(row, texts, _predicted_option(answers)) for row, texts, _, answers in questions]
    )
    samples = []
    for gold, (row, texts, options, answers) in zip(golds, questions, strict=True):
        sample = Sample(
            example=Example(
                example_id=f"{split or 'doc'}:{row.doc_id}",
                prompt=row.arguments[0][0],
                options=tuple(options),
                gold=gold,
            ),
            log_likelihoods=tuple(value for value, _ in answers),
            option_bytes=tuple(len(text.encode()) for text in texts),
            source_hash=row.doc_hash,
        )
        by_character = np.divide([v for v, _ in answers], [len(text) for text in texts])
        _check_score(path, row, "acc_bytes", row.acc_bytes, sample.prediction_norm, gold)
        _check_score(path, row, "acc_norm", row.acc_norm, int(np.argmax(by_character)), gold)
        samples.append(sample)
    if all(sample.confidence is None for sample in samples):
        raise BadRow(f"{path}: no row has a finite log-likelihood of each option")
    return samples


def _predicted_option(answers: Sequence[tuple[float, Any]]) -> int:
    return int(np.argmax([value for value, _ in answers]))


def _gold_options(
    path: Path, questions: Sequence[tuple[HarnessSample, list[str], int]]
) -> list[int]:
    """The index of the gold option of each row.

    A target is the number of an option or its text. The log does not say which, and the text of an
    option may be `1`. All targets of a task have the same meaning: the meaning that agrees with
    `acc` in all rows. If neither does, the error is about the meaning that fits more rows.
    """
    golds = {
        meaning: [read(row.target, options) for row, options, _ in questions]
        for meaning, read in (("number", _by_number), ("text", _by_text))
    }
    misfits = {
        meaning: [
            place
            for place, (row, _, prediction) in enumerate(questions)
            if found[place] is None or row.acc != (prediction == found[place])
        ]
        for meaning, found in golds.items()
    }
    likely = min(misfits, key=lambda meaning: len(misfits[meaning]))
    if misfits[likely]:
        place = misfits[likely][0]
        row, options, prediction = questions[place]
        gold = golds[likely][place]
        if gold is not None:
            _check_score(path, row, "acc", row.acc, prediction, gold)
        raise BadRow(
            f"{path}, doc_id {row.doc_id}: target {shortened(repr(row.target))} is "
            + (
                f"neither the number of an option (0 to {len(options) - 1}) nor its text "
                f"({shortened(', '.join(options))})"
                if all(found[place] is None for found in golds.values())
                else f"not the {likely} of an option, but most targets of this log are"
            )
        )
    fitting = [golds[meaning] for meaning, places in misfits.items() if not places]
    if fitting[0] != fitting[-1]:
        raise BadRow(
            f"{path}: the targets may be numbers or texts of options, and both agree with acc"
        )
    return [gold for gold in fitting[0] if gold is not None]


def _by_number(target: Any, options: Sequence[str]) -> int | None:
    return _index(target, [str(number) for number in range(len(options))])


def _by_text(target: Any, options: Sequence[str]) -> int | None:
    return _index(target, [option.strip() for option in options])


def _index(target: Any, names: Sequence[str]) -> int | None:
    text = str(target).strip()
    return None if target is None or text not in names else names.index(text)


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
