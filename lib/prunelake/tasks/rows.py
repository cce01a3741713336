"""Read the rows of a task and turn them into examples: prompt, options and gold option."""

import zlib
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from prunelake.errors import BadRow, DatasetNotFound, one_line
from prunelake.identity import content_hash
from prunelake.spec import Rows
from prunelake.tasks.catalogue import (
    CATALOGUE_FOLDER,
    GoldColumn,
    Task,
    options_problem,
    prompt_parts,
)
from prunelake.tasks.harness import HarnessTask
from prunelake.tasks.harness_rows import read_harness_rows
from prunelake.tasks.hub import (
    PARQUET_REVISION,
    download_dataset_file,
    first_data_file,
    read_json_lines,
)
from prunelake.tasks.row_selection import select_rows

OPTION_DELIMITER = " "
"""The text between prompt and option: the default of lm-evaluation-harness."""


@dataclass(frozen=True, slots=True)
class Example:
    """One question as the model sees it.

    - `example_id`: `<split>:<row number>`.
    - `options`: each begins with the delimiter (`OPTION_DELIMITER`).
    - `gold`: the index of the right option.
    - `lengths`: the length of each option in bytes, by which `prediction_norm` divides; None means
      the length of its text without spaces at the beginning.
    - `ending`: the scored text at the end of each option; None if whole options are scored. Options
      with one ending differ in front of it, as in "The cup | it | was full".
    """

    example_id: str
    prompt: str
    options: tuple[str, ...]
    gold: int
    lengths: tuple[int, ...] | None = None
    ending: str | None = None

    @property
    def option_bytes(self) -> list[int]:
        """The length of each option in bytes."""
        if self.lengths is not None:
            return [*self.lengths]
        return [len(option.lstrip(" ").encode()) for option in self.options]


def load_examples(task: Task | HarnessTask, rows: Rows, data_folder: Path | None) -> list[Example]:
    """The selected rows of a task as examples, in the order of the selection.

        load_examples(get_task("boolq"), Rows(first=100), data_folder=None)

    Rows come from the task's bundled file if it has one, else from `data_folder` if it is given,
    else from the hub.

    Raises:
        DatasetNotFound: no such file, or the hub cannot be reached or read.
        InvalidSpec, EmptySelection: as `select_rows`.
        BadRow: a selected row lacks a column, or its label names no option.
    """
    return select_examples(task, rows, *read_records(task, data_folder))


def select_examples(
    task: Task | HarnessTask, rows: Rows, origin: Path, records: Sequence[Any]
) -> list[Example]:
    """The selected records of the file `origin` as examples, in the order of the selection.

    Raises:
        InvalidSpec, EmptySelection, BadRow: as `load_examples`.
    """
    selected = select_rows(rows, len(records), f"{task.name} ({task.split})")
    return [build_example(task, origin, n, records[n]) for n in selected]


def data_hash(examples: Sequence[Example]) -> str:
    """The SHA-256 (hex) of all fields of the examples, in order."""
    return content_hash([_hashed_fields(example) for example in examples])


def _hashed_fields(example: Example) -> list[object]:
    """All fields; unset rare fields are left out, so that examples without them keep their hash."""
    fields: list[object] = [example.example_id, example.prompt, example.options, example.gold]
    if example.lengths is not None:
        fields += [example.lengths, example.ending]
    return fields


def example_generator(example_id: str, seed: int, *stream: int) -> np.random.Generator:
    """A random generator for one example; other `stream` numbers give independent generators."""
    return np.random.default_rng([seed, zlib.crc32(example_id.encode()), *stream])


def read_records(task: Task | HarnessTask, data_folder: Path | None) -> tuple[Path, Sequence[Any]]:
    """The file that holds a task's split, and all rows in it.

    Raises:
        DatasetNotFound, BadRow: as `load_examples`.
    """
    if isinstance(task, HarnessTask):
        return Path(task.dataset), read_harness_rows(task, data_folder)
    if task.bundled is not None:
        path = CATALOGUE_FOLDER / task.bundled
        if not path.is_file():
            raise DatasetNotFound(f"task {task.name}: no file {path}, which its `bundled` names")
    elif data_folder is not None:
        path = first_data_file([data_folder / task.file], f"task {task.name}")
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


def build_example(task: Task | HarnessTask, origin: Path, number: int, record: Any) -> Example:
    """The example that a task builds from one record, row `number` of the file `origin`.

    Raises:
        BadRow: a column is missing or has another type, or the label names no option.
    """
    if isinstance(task, HarnessTask):
        return Example(f"{task.split}:{number}", *astuple(record.question()))
    where = f"{origin}, row {number}"
    prompt = "".join(
        text + ("" if column is None else text_value(record, column, where))
        for text, column in prompt_parts(task.prompt)
    )
    if isinstance(task.options, str):
        options = _list_value(record, task.options, where)
        for option in options:
            if not isinstance(option, str):
                raise BadRow(f"{where}, column {task.options}: {option!r} is not a text")
        if problem := options_problem(options):
            raise BadRow(f"{where}, column {task.options}: {problem}, or leave the row out")
    else:
        options = list(task.options)
    return Example(
        example_id=f"{task.split}:{number}",
        prompt=prompt,
        options=tuple(OPTION_DELIMITER + option for option in options),
        gold=_gold_index(task.gold, record, options, where),
    )


def _gold_index(gold: GoldColumn, record: Any, options: Sequence[str], where: str) -> int:
    """The index of the right option."""
    value = _value(record, gold.column, where)
    if gold.labels is None:
        return _named_option(value, options, f"{where}, column {gold.column}")
    labels = [str(label).strip() for label in _list_value(record, gold.labels, where)]
    if len(labels) != len(options):
        raise BadRow(
            f"{where}, column {gold.labels}: {len(labels)} labels for {len(options)} options"
        )
    key = str(value).strip()
    if key not in labels:
        raise BadRow(f"{where}, column {gold.column}: {key!r} is not one of {', '.join(labels)}")
    return labels.index(key)


def _named_option(value: Any, options: Sequence[str], where: str) -> int:
    """The index of an option from its number (from 0), its letter or its text.

    A number without quotes is always a position.
    """
    positions = [str(index) for index in range(len(options))]
    letters = [chr(ord("A") + index) for index in range(min(len(options), 26))]
    key = "" if isinstance(value, bool) else str(value).strip()
    if isinstance(value, int):
        found = {positions.index(key)} if key in positions else set()
    else:
        texts = [option.strip() for option in options]
        namings = ((texts, key), (letters, key.upper()), (positions, key))
        found = {names.index(name) for names, name in namings if name in names}
    if len(found) > 1:
        raise BadRow(
            f"{where}: {key!r} may be an option's text, letter or position; give the position, a "
            "number without quotes"
        )
    if not found:
        raise BadRow(
            f"{where}: {value!r} names no option; give a position from 0 to {len(options) - 1}, a "
            f"letter from A to {letters[-1]}, or the text of an option: {', '.join(options)}"
        )
    return found.pop()


def _value(record: Any, column: str, where: str) -> Any:
    value = record
    for step in column.split("."):
        if not isinstance(value, dict) or value.get(step) is None:
            known = ", ".join(record) if isinstance(record, dict) else "no columns"
            raise BadRow(f"{where}, column {column}: no value; the row has {known}")
        value = value[step]
    return value


def text_value(record: Any, column: str, where: str) -> str:
    """The text in a column of a record; `where` begins the error message.

    Raises:
        BadRow: the value is no text, or only white space.
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
