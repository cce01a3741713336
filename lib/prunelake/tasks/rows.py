"""Rows of a task as examples: read, selected, and put into prompts."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydantic import ValidationError

from prunelake.errors import BadRow, DatasetNotFound, EmptySelection, InvalidSpec, one_line
from prunelake.spec import Rows, content_hash
from prunelake.tasks.catalogue import CATALOG_FOLDER, GoldColumn, Task
from prunelake.tasks.hub import (
    PARQUET_REVISION,
    download_dataset_file,
    read_json_lines,
    require_data_file,
)

OPTION_DELIMITER = " "  # between prompt and option, lm-evaluation-harness's default
ROW_FORMS = (
    "200 (the first 200), sample:200 or sample:200:7 (200 drawn with seed 7), numbers:3,5,8, "
    "or a JSON file with a list of row numbers or an object from task to list, "
    "optionally followed by :24 (its first 24)"
)


@dataclass(frozen=True, slots=True)
class Example:
    """One question as the model sees it; each option begins with the delimiter space."""

    example_id: str  # "<split>:<row>"
    prompt: str
    options: tuple[str, ...]
    gold: int


def load_examples(task: Task, rows: Rows, data: Path | None) -> list[Example]:
    """The selected rows of a task as examples, in the order of the selection.

    Rows come from the bundled file if the task has one, else from the folder `data` if it is
    given, else from the hub. A `sample` is in row order; `numbers` keep the order given.

    Raises:
        DatasetNotFound: no such file, or the hub cannot be reached or read.
        InvalidSpec: the selection asks for rows that the split does not have, or for one twice.
        EmptySelection: the selection asks for no row.
        BadRow: a selected row lacks what the task needs.
    """
    origin, found = read_records(task, data)
    selected = _select_rows(rows, len(found), f"{task.name} ({task.split})")
    return [build_example(task, origin, n, found[n]) for n in selected]


def data_hash(examples: Sequence[Example]) -> str:
    """SHA-256 (hex) of everything a model is shown and scored by, in order."""
    return content_hash([[e.example_id, e.prompt, e.options, e.gold] for e in examples])


def parse_rows(text: str, task: str) -> Rows:
    """A row selection as written on a command line; the message of its error lists the forms.

    Raises:
        InvalidSpec: none of the forms, or a file that does not hold what its form says.
    """
    if re.fullmatch(r"[0-9]+", text):
        return Rows(first=int(text))
    if match := re.fullmatch(r"sample:([0-9]+)(?::([0-9]+))?", text):
        try:
            return Rows(sample=int(match[1]), seed=int(match[2] or 0))
        except ValidationError as error:
            raise InvalidSpec(f"rows {text!r}: {error.errors()[0]['msg']}") from error
    if match := re.fullmatch(r"numbers:([0-9]+(?:,[0-9]+)*)", text):
        return Rows(numbers=tuple(int(n) for n in match[1].split(",")))
    path, first = text, None
    if match := re.fullmatch(r"(.+):([0-9]+)", text):
        path, first = match[1], int(match[2])
    # A mistyped list of numbers can be too long to ask the file system about.
    if text.startswith(("sample:", "numbers:")) or not Path(path).is_file():
        raise InvalidSpec(f"rows {text!r}: no such form or file; write {ROW_FORMS}")
    return Rows(numbers=_read_row_numbers(Path(path), task, first))


def read_records(task: Task, data: Path | None) -> tuple[Path, list[Any]]:
    """Where all rows of a task's split stand, and the rows.

    Raises:
        DatasetNotFound, BadRow: as `load_examples`.
    """
    if task.bundled is not None:
        path = CATALOG_FOLDER / task.bundled
        if not path.is_file():
            raise DatasetNotFound(f"task {task.name}: no file {path}, which its `bundled` names")
    elif data is not None:
        path = data / task.file
        require_data_file(path, f"task {task.name}")
    else:
        assert task.hub is not None
        filename = f"{task.hub.config}/{task.split}/0000.parquet"
        path = download_dataset_file(task.hub.repo, filename, PARQUET_REVISION, task.file)
        try:
            return path, pl.read_parquet(path).to_dicts()
        except pl.exceptions.PolarsError as error:
            raise DatasetNotFound(
                f"{path}, from the hub, cannot be read: {one_line(error)}"
            ) from error
    return path, list(read_json_lines(path))


def _select_rows(rows: Rows, size: int, where: str) -> list[int]:
    if 0 in (rows.first, rows.sample) or rows.numbers == ():
        raise EmptySelection(f"{where}: 0 rows selected; ask for 1 to {size}")
    for count in (rows.first, rows.sample):
        if count is not None and count > size:
            raise InvalidSpec(f"{where}: {count} rows asked for; it has {size}")
    if rows.first is not None:
        return list(range(rows.first))
    if rows.sample is not None:
        draw = np.random.default_rng(rows.seed).choice(size, rows.sample, replace=False)
        return sorted(draw.tolist())
    seen: set[int] = set()
    for number in rows.numbers or ():
        if not 0 <= number < size:
            raise InvalidSpec(f"{where}: no row {number}; it has {size} rows, from 0")
        if number in seen:
            raise InvalidSpec(f"{where}: row {number} is asked for more than once")
        seen.add(number)
    return list(rows.numbers or ())


def build_example(task: Task, origin: Path, number: int, record: Any) -> Example:
    """Row `number` of the rows that stand in `origin`.

    Raises:
        BadRow: it lacks what the task needs.
    """
    where = f"{origin}, row {number}"
    prompt = task.prompt.format(**{c: text_value(record, c, where) for c in task.columns})
    if isinstance(task.options, str):
        options = _list_value(record, task.options, where)
        for option in options:
            if not isinstance(option, str) or not option.strip():
                raise BadRow(f"{where}, column {task.options}: {option!r} is not a text")
    else:
        options = list(task.options)
    if len(options) < 2:
        raise BadRow(f"{where}, column {task.options}: {len(options)} options; it takes at least 2")
    return Example(
        example_id=f"{task.split}:{number}",
        prompt=prompt,
        options=tuple(OPTION_DELIMITER + option for option in options),
        gold=_gold_index(task.gold, record, len(options), where),
    )


def _gold_index(gold: GoldColumn, record: Any, option_count: int, where: str) -> int:
    key = str(_value(record, gold.column, where)).strip()
    if gold.labels is None:
        labels = [str(index) for index in range(option_count)]
    else:
        labels = [str(label).strip() for label in _list_value(record, gold.labels, where)]
        if len(labels) != option_count:
            raise BadRow(
                f"{where}, column {gold.labels}: {len(labels)} labels for {option_count} options"
            )
    if key not in labels:
        raise BadRow(f"{where}, column {gold.column}: {key!r} is not one of {', '.join(labels)}")
    return labels.index(key)


def _value(record: Any, column: str, where: str) -> Any:
    value = record
    for step in column.split("."):
        if not isinstance(value, dict) or value.get(step) is None:
            raise BadRow(f"{where}, column {column}: no value")
        value = value[step]
    return value


def text_value(record: Any, column: str, where: str) -> str:
    """The text in a column of a record.

    Raises:
        BadRow: there is none, or only white space.
    """
    value = _value(record, column, where)
    if not isinstance(value, str) or not value.strip():
        raise BadRow(f"{where}, column {column}: {value!r} is not a text")
    return value


def _list_value(record: Any, column: str, where: str) -> list[Any]:
    value = _value(record, column, where)
    if not isinstance(value, list):
        raise BadRow(f"{where}, column {column}: {value!r} is not a list")
    return value


def _read_row_numbers(path: Path, task: str, first: int | None) -> tuple[int, ...]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise InvalidSpec(f"rows file {path}: not JSON ({error}); write {ROW_FORMS}") from error
    if isinstance(value, dict):
        if task not in value:
            raise InvalidSpec(f"rows file {path}: no rows for {task}; it has {', '.join(value)}")
        value = value[task]
    if not isinstance(value, list) or any(type(n) is not int for n in value):
        raise InvalidSpec(f"rows file {path}: not a list of row numbers; write {ROW_FORMS}")
    if first is not None and first > len(value):
        raise InvalidSpec(f"rows file {path}: {first} rows asked for, but it lists {len(value)}")
    return tuple(value[:first])
