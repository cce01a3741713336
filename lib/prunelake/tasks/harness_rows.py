"""The rows of a task of lm-evaluation-harness: its own documents, prompts and few-shot sampler."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, overload

import polars as pl

from prunelake.errors import BadRow, DatasetNotFound, one_line
from prunelake.tasks.harness import HarnessTask, harness_config, quiet_harness
from prunelake.tasks.hub import read_json_lines

ONLY_ACCURACY = [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}]
"""PruneLake computes metrics itself; a task's own metrics may need further packages or requests."""


@dataclass(frozen=True)
class HarnessQuestion:
    """One question, with the fields of `rows.Example`."""

    prompt: str
    options: tuple[str, ...]
    gold: int
    lengths: tuple[int, ...]
    ending: str | None = None


@dataclass(frozen=True)
class HarnessRow:
    """One row; its question is built on request."""

    rows: "HarnessRows"
    number: int

    def question(self) -> HarnessQuestion:
        """The question that the harness asks about this row.

        Raises:
            BadRow: the row lacks a column, or has no single right option.
        """
        return self.rows.question(self.number)


class HarnessRows(Sequence[HarnessRow]):
    """The rows of the split that the harness evaluates, in its order.

    A row has the same prompt as when the harness evaluates the whole split: one random generator
    draws the examples in the prompts, row by row.
    """

    def __init__(self, task: HarnessTask, data_folder: Path | None) -> None:
        self._name = task.name
        self._shots = task.prompts.shots
        self._drawn: list[Sequence[Any]] = []
        """The examples of the first rows."""
        with quiet_harness():
            self._task = _built_task(task, data_folder)
            if self._shots:
                self._task.set_config(key="num_fewshot", value=self._shots)
                self._task.set_fewshot_seed(seed=task.prompts.shot_seed)
            self._sampler: Any = getattr(self._task, "sampler", None)
            self._docs: Any = self._task.eval_docs

    def __len__(self) -> int:
        return len(self._docs)

    @overload
    def __getitem__(self, index: int) -> HarnessRow: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[HarnessRow]: ...
    def __getitem__(self, index: int | slice) -> HarnessRow | Sequence[HarnessRow]:
        if isinstance(index, slice):
            return [self[n] for n in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        return HarnessRow(self, index)

    def __iter__(self) -> Iterator[HarnessRow]:
        return (self[n] for n in range(len(self)))

    def question(self, number: int) -> HarnessQuestion:
        """The question of one row.

        Raises:
            BadRow: as `HarnessRow.question`.
        """
        where = f"task {self._name}, row {number}"
        doc = self._docs[number]
        try:
            with quiet_harness():
                prompt = self._context(number)
                choices = list(self._task.doc_to_choice(doc))
                target, text = self._task.doc_to_target(doc), self._task.doc_to_text(doc)
        except Exception as error:  # the task's templates and functions raise any type
            raise BadRow(f"{where}: its prompt cannot be built ({one_line(error)})") from error
        delimiter = self._task.config.target_delimiter
        lengths = tuple(len(choice.encode()) for choice in choices)
        if isinstance(prompt, str):
            options = tuple(f"{delimiter}{choice}" for choice in choices)
            return HarnessQuestion(prompt, options, _gold_index(target, choices, where), lengths)
        # Each choice has its own prompt, and all prompts have the same continuation.
        shared, ending = shared_length(prompt), f"{delimiter}{target}"
        options = tuple(context[shared:] + ending for context in prompt)
        return HarnessQuestion(
            prompt[0][:shared], options, _gold_index(text, choices, where), lengths, ending
        )

    def _context(self, number: int) -> str | list[str]:
        """The prompt of a row; the examples of all rows before it are drawn first."""
        task, doc = self._task, self._docs[number]
        while self._shots and len(self._drawn) <= number:
            own = self._docs[len(self._drawn)]
            # As in the harness: only a row of the same split could be its own example.
            is_same_split = task.fewshot_cfg.split == task.config.test_split
            self._drawn.append(
                self._sampler.sample(n=self._shots, eval_doc=own if is_same_split else None)
            )
        if self._shots:
            task.sampler = _Drawn(self._drawn[number])
        prompt: str | list[str] = task.fewshot_context(
            doc, self._shots, gen_prefix=task.doc_to_prefix(doc)
        )
        return prompt


@dataclass(frozen=True)
class _Drawn:
    """Examples that a sampler of the harness has drawn, in place of the sampler."""

    docs: Sequence[Any]

    def sample(self, **_: Any) -> Sequence[Any]:
        """The examples."""
        return self.docs


def shared_length(sequences: Sequence[Sequence[object]]) -> int:
    """The length of the beginning that all sequences share."""
    shortest = min(map(len, sequences))
    columns = zip(*(sequence[:shortest] for sequence in sequences), strict=True)
    return next((n for n, items in enumerate(columns) if len({*items}) > 1), shortest)


@cache
def read_harness_rows(task: HarnessTask, data_folder: Path | None) -> HarnessRows:
    """The rows of a task as the harness reads them, from a data folder or else from the hub.

    Raises:
        DatasetNotFound: the files do not exist, or the hub cannot be reached or read.
        BadRow: the first row does not fit the task.
    """
    return HarnessRows(task, data_folder)


def _built_task(task: HarnessTask, data_folder: Path | None) -> Any:
    """The harness' own object of a task, with its data."""
    from lm_eval.api.task import ConfigurableTask

    config = harness_config(task.file, with_functions=True)
    for name in ("tag", "group", "task_list"):
        config.pop(name, None)
    splits = _local_splits(task, data_folder) if data_folder else _hub_splits(task, config)
    config |= {
        "custom_dataset": lambda **_: splits,
        "dataset_kwargs": None,
        "metric_list": ONLY_ACCURACY,
    }
    try:
        return ConfigurableTask(config=config)
    except Exception as error:  # the harness tries the task's templates and functions on a row
        raise BadRow(
            f"task {task.name}: its rows in {task.dataset} do not fit it ({one_line(error)})"
        ) from error


def _local_splits(task: HarnessTask, data_folder: Path) -> Any:
    """All splits of a dataset in a data folder: one file SPLIT.jsonl or SPLIT.parquet for each."""
    from datasets import Dataset, DatasetDict

    folder = data_folder / task.dataset
    files = {
        path.stem: path for path in sorted([*folder.glob("*.jsonl"), *folder.glob("*.parquet")])
    }
    if task.split not in files:
        raise DatasetNotFound(
            f"task {task.name}: no file {folder / task.split}.jsonl or .parquet; put it there, or "
            "unset PRUNELAKE_DATA to read the hub"
        )
    splits = {}
    for split, path in files.items():
        try:
            rows = (
                pl.read_parquet(path).to_dicts()
                if path.suffix == ".parquet"
                else list(read_json_lines(path))
            )
            splits[split] = Dataset.from_list(rows)
        except (pl.exceptions.PolarsError, ValueError, TypeError, AttributeError) as error:
            raise DatasetNotFound(f"{path} cannot be read: {one_line(error)}") from error
    return DatasetDict(splits)


def _hub_splits(task: HarnessTask, config: dict[str, Any]) -> Any:
    """All splits of a dataset, by the same call as in the harness."""
    from datasets import load_dataset

    options = dict(config.get("dataset_kwargs") or {})
    options.pop("trust_remote_code", None)
    own = config.get("custom_dataset")
    try:
        if callable(own):
            return own(**(config.get("metadata") or {}), **options)
        return load_dataset(config["dataset_path"], config.get("dataset_name"), **options)
    except Exception as error:  # the hub's client, HTTP, files and values raise many types
        raise DatasetNotFound(
            f"task {task.name}: dataset {task.dataset} cannot be read from the hub "
            f"({one_line(error)}); go online, or set PRUNELAKE_DATA to a folder with "
            f"{task.dataset}/{task.split}.jsonl"
        ) from error


def _gold_index(gold: Any, options: Sequence[str], where: str) -> int:
    """The index of the right option: the harness accepts an index, a text, or a list of these."""
    golds = gold if isinstance(gold, list) else [gold]
    if len(golds) != 1:
        raise BadRow(f"{where}: {len(golds)} options are right; PruneLake needs exactly one")
    (value,) = golds
    if isinstance(value, str) and value in options:
        return options.index(value)
    if isinstance(value, int) and 0 <= value < len(options):
        return int(value)
    raise BadRow(f"{where}: its gold {value!r} is not one of its {len(options)} options")
