"""What is asked: a task is a source of rows, a prompt and options, written down in YAML."""

import gzip
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Self

import numpy as np
import polars as pl
import yaml
from huggingface_hub import hf_hub_download
from pydantic import Field, ValidationError, model_validator

from prunelake.errors import (
    BadRow,
    DatasetNotFound,
    EmptySelection,
    InvalidSpec,
    UnknownTask,
    one_line,
)
from prunelake.spec import TASK_FILES, Frozen, Rows, content_hash

CATALOG = Path(str(files("prunelake") / "catalog"))
DELIMITER = " "  # between prompt and option, lm-evaluation-harness's default
PARQUET = "refs/convert/parquet"  # the hub's own conversion of every public dataset

ROW_FORMS = (
    "200 (the first 200), sample:200 or sample:200:7 (200 drawn with seed 7), numbers:3,5,8, "
    "or a JSON file with a list of row numbers or an object from task to list, "
    "optionally followed by :24 (its first 24)"
)


class Hub(Frozen):
    """A dataset on the Hugging Face hub."""

    repo: str
    config: str


class Gold(Frozen):
    """Where the right answer stands: an option's index in `column`, or a key among `labels`."""

    column: str
    labels: str | None = None


class Task(Frozen):
    """One task, of the catalog or of a file of the user's own.

    `prompt` is a format string over the row's text columns. `options` are the same for all rows,
    or name the column that holds each row's (a dot steps into a struct: `choices.text`). The rows
    are a `bundled` file beside the task's own, or are found on the `hub` or in `folder` of a data
    folder (by default one of the task's name). `spare` names splits that are never reported, which
    a search may read, the best first.
    """

    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    description: str
    source: str
    license: str
    split: str
    prompt: str
    options: tuple[str, ...] | str
    gold: Gold
    hub: Hub | None = None
    bundled: str | None = None
    folder: str | None = None
    spare: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.hub is None) == (self.bundled is None):
            raise ValueError("give exactly one of hub, bundled")
        return self

    @property
    def file(self) -> str:
        """The path of the rows below a data folder."""
        return f"{self.folder or self.name}/{self.split}.jsonl"

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the prompt shows."""
        return tuple(field for _, field, _, _ in Formatter().parse(self.prompt) if field)


@dataclass(frozen=True, slots=True)
class Example:
    """One question as the model sees it; each option begins with the delimiter space."""

    example_id: str  # "<split>:<row>"
    prompt: str
    options: tuple[str, ...]
    gold: int


def names() -> list[str]:
    """The tasks of the catalog, sorted."""
    return sorted(path.stem for path in CATALOG.glob("*.yaml"))


def get(task: str) -> Task:
    """The task of that name, or of that YAML file.

    Raises:
        UnknownTask: the catalog has no such name (the message lists those there are), or the file
            does not describe a task of its own name.
    """
    if task.endswith(TASK_FILES):
        return _own(Path(task))
    if task not in names():
        raise UnknownTask(
            f"unknown task {task!r}; choose from {', '.join(names())}, or give the path of a "
            ".yaml file"
        )
    return _of_catalog(task)


@cache
def _of_catalog(name: str) -> Task:
    return Task.model_validate(yaml.safe_load((CATALOG / f"{name}.yaml").read_text("utf-8")))


def _own(path: Path) -> Task:
    """The task that a file of the user's own describes."""
    try:
        task = Task.model_validate(yaml.safe_load(path.read_text("utf-8")))
    except ValidationError as error:
        told = "; ".join(
            f"{'.'.join(map(str, problem['loc'])) or 'the file'}: {problem['msg']}"
            for problem in error.errors()
        )
        raise UnknownTask(f"task file {path}: {told}") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UnknownTask(f"task file {path} cannot be read: {one_line(error)}") from error
    # Runs are compared by the task's name: it has to be told from a path, and mean one thing.
    if task.name != path.stem:
        raise UnknownTask(f"task file {path}: its name is {task.name!r}; name it {path.stem!r}")
    if task.name in names():
        raise UnknownTask(
            f"task file {path}: the catalog has a task {task.name!r}; give yours another name"
        )
    if task.bundled is None:
        return task
    return task.model_copy(update={"bundled": str((path.parent / task.bundled).resolve())})


def load(task: Task, rows: Rows, data: Path | None) -> list[Example]:
    """The selected rows of a task as examples, in the order of the selection.

    Rows come from the bundled file if the task has one, else from the folder `data` if it is
    given, else from the hub. A `sample` is in row order; `numbers` keep the order given.

    Raises:
        DatasetNotFound: no such file, or the hub cannot be reached or read.
        InvalidSpec: the selection asks for rows that the split does not have, or for one twice.
        EmptySelection: the selection asks for no row.
        BadRow: a selected row lacks what the task needs.
    """
    origin, found = records(task, data)
    selected = _select(rows, len(found), f"{task.name} ({task.split})")
    return [example(task, origin, n, found[n]) for n in selected]


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
    return Rows(numbers=_numbers_of_file(Path(path), task, first))


def lines(path: Path) -> Iterator[Any]:
    """The JSON values of a file of lines, packed by gzip or not.

    Raises:
        BadRow: a line that is no JSON.
    """
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
        for number, line in enumerate(stream):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise BadRow(f"{path}, row {number}: not JSON ({error})") from error


def records(task: Task, data: Path | None) -> tuple[Path, list[Any]]:
    """Where all rows of a task's split stand, and the rows.

    Raises:
        DatasetNotFound, BadRow: as `load`.
    """
    if task.bundled is not None:
        path = CATALOG / task.bundled
        if not path.is_file():
            raise DatasetNotFound(f"task {task.name}: no file {path}, which its `bundled` names")
    elif data is not None:
        path = data / task.file
        require(path, f"task {task.name}")
    else:
        assert task.hub is not None
        filename = f"{task.hub.config}/{task.split}/0000.parquet"
        path = download(task.hub.repo, filename, PARQUET, task.file)
        try:
            return path, pl.read_parquet(path).to_dicts()
        except pl.exceptions.PolarsError as error:
            raise DatasetNotFound(
                f"{path}, from the hub, cannot be read: {one_line(error)}"
            ) from error
    return path, list(lines(path))


def require(path: Path, what: str) -> None:
    """Insist on a file of the data folder.

    Raises:
        DatasetNotFound: it is not there.
    """
    if not path.is_file():
        raise DatasetNotFound(
            f"{what}: no file {path}; put it there, or unset PRUNELAKE_DATA to read the hub"
        )


def download(repo: str, filename: str, revision: str | None, file: str) -> Path:
    """A file of a dataset on the hub; in the data folder it would be `file`.

    Raises:
        DatasetNotFound: the hub cannot be reached or does not have it.
    """
    try:
        return Path(hf_hub_download(repo, filename, repo_type="dataset", revision=revision))
    # The hub's client lets through errors of its own, of HTTP, of files and of values.
    except Exception as error:
        raise DatasetNotFound(
            f"{filename} of dataset {repo} cannot be had from the hub ({one_line(error)}); "
            f"go online, or set PRUNELAKE_DATA to a folder with {file}"
        ) from error


def _select(rows: Rows, size: int, where: str) -> list[int]:
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


def example(task: Task, origin: Path, number: int, record: Any) -> Example:
    """Row `number` of the rows that stand in `origin`.

    Raises:
        BadRow: it lacks what the task needs.
    """
    where = f"{origin}, row {number}"
    prompt = task.prompt.format(**{c: text_of(record, c, where) for c in task.columns})
    if isinstance(task.options, str):
        options = _list(record, task.options, where)
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
        options=tuple(DELIMITER + option for option in options),
        gold=_gold(task.gold, record, len(options), where),
    )


def _gold(gold: Gold, record: Any, option_count: int, where: str) -> int:
    key = str(_value(record, gold.column, where)).strip()
    if gold.labels is None:
        labels = [str(index) for index in range(option_count)]
    else:
        labels = [str(label).strip() for label in _list(record, gold.labels, where)]
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


def text_of(record: Any, column: str, where: str) -> str:
    """The text in a column of a record.

    Raises:
        BadRow: there is none, or only white space.
    """
    value = _value(record, column, where)
    if not isinstance(value, str) or not value.strip():
        raise BadRow(f"{where}, column {column}: {value!r} is not a text")
    return value


def _list(record: Any, column: str, where: str) -> list[Any]:
    value = _value(record, column, where)
    if not isinstance(value, list):
        raise BadRow(f"{where}, column {column}: {value!r} is not a list")
    return value


def _numbers_of_file(path: Path, task: str, first: int | None) -> tuple[int, ...]:
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
