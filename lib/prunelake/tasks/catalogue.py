"""Tasks: each is a source of rows, a prompt and options, described in a YAML file."""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from prunelake.errors import InvalidSpec, UnknownTask, one_line
from prunelake.spec import HARNESS_PREFIX, TASK_FILE_SUFFIXES, FrozenValue
from prunelake.tasks.harness import HarnessTask, find_harness_task
from prunelake.yaml_file import validate_yaml

CATALOGUE_FOLDER = Path(str(files("prunelake") / "tasks" / "bundled"))


EXAMPLE = 'prompt: "Question: {question}"'
"""The beginning of a task file."""


class HubDataset(FrozenValue):
    """A dataset on the Hugging Face hub."""

    repo: str
    config: str


class GoldColumn(FrozenValue):
    """The columns that give the right option.

    `column` holds the option's position (a number from 0), its letter (A, B, ...) or its text. If
    `labels` names a column with a list of labels, `column` holds a label from this list.
    """

    column: str
    labels: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_column(cls, value: Any) -> Any:
        return {"column": value} if isinstance(value, str) else value


class Task(FrozenValue):
    """One task, from the catalogue or from the user's own YAML file (docs/tasks.md).

    - `prompt`: the text of the prompt; `{column}` stands for the text in this column of the row.
    - `options`: the texts of the options, or the name of the column that lists them for each row (a
      dot steps into a struct: `choices.text`).
    - `gold`: the right option; the name of a column is enough.
    - `bundled`: a file of rows beside the YAML file. Without it, the rows come from `hub`, or from
      `folder` in a data folder (by default the folder with the task's name).
    - `split`: the split of the dataset; it begins the ids of examples.
    - `spare`: splits that are never reported, so a search may read them; the best split first.
    """

    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    description: str = ""
    source: str = ""
    license: str = "unknown"
    split: str = "test"
    prompt: str
    options: tuple[str, ...] | str
    gold: GoldColumn
    hub: HubDataset | None = None
    bundled: str | None = None
    folder: str | None = None
    spare: tuple[str, ...] = ()

    @field_validator("prompt")
    @classmethod
    def _check_prompt(cls, prompt: str) -> str:
        if all(column is None for _, column in prompt_parts(prompt)):
            raise ValueError(
                f"{prompt!r} is the same for every row; write a column in braces: {{question}}"
            )
        return prompt

    @field_validator("options", mode="before")
    @classmethod
    def _check_options(cls, options: Any) -> Any:
        if isinstance(options, str):
            return options
        if not isinstance(options, list | tuple):
            raise ValueError(
                f'{options!r} is neither a list like ["no", "yes"] nor the name of a column'
            )
        for option in options:
            if not isinstance(option, str):
                raise ValueError(
                    f"{option!r} is not a text: YAML reads yes, no, on, off and numbers as values; "
                    'write options in quotes, like ["no", "yes"]'
                )
        if problem := options_problem(options):
            raise ValueError(problem)
        return options

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.hub is None) == (self.bundled is None):
            raise ValueError("give exactly one of hub (a dataset) and bundled (a file of rows)")
        return self

    @property
    def file(self) -> str:
        """The path of the file of rows below a data folder."""
        return f"{self.folder or self.name}/{self.split}.jsonl"


def prompt_parts(prompt: str) -> list[tuple[str, str | None]]:
    """The pieces of a prompt: a text, and the column whose text follows it (None at the end).

        prompt_parts("Q: {question}?")  # [("Q: ", "question"), ("?", None)]

    Two braces stand for one brace.

    Raises:
        ValueError: a brace has no partner, or braces have more than the name of a column.
    """
    try:
        parts = [*Formatter().parse(prompt)]
    except ValueError as error:
        raise ValueError(
            f"{prompt!r}: a brace has no partner; write {{column}}, and {{{{ or }}}} for a brace"
        ) from error
    for _, column, form, conversion in parts:
        if column is not None and (not column.strip() or form or conversion):
            raise ValueError(
                f"{prompt!r}: braces take the name of a column and nothing else, like {{question}}"
            )
    return [(text, column) for text, column, *_ in parts]


def options_problem(options: Sequence[str]) -> str | None:
    """Why texts cannot be the options of a question; None if they can."""
    texts = [option.strip() for option in options]
    if len(texts) < 2:
        return f"{len(texts)} options; a question has at least 2"
    if "" in texts:
        return f"option {texts.index('')} is empty; each option is a text"
    if doubled := next((text for text in texts if texts.count(text) > 1), None):
        return f"the option {doubled!r} appears twice; write different options"
    return None


def task_names() -> list[str]:
    """The names of the tasks in the catalogue, sorted."""
    return sorted(path.stem for path in CATALOGUE_FOLDER.glob("*.yaml"))


def find_task(task: str) -> Task | HarnessTask:
    """The task of lm-evaluation-harness if `task` begins with `harness:`, else as `get_task`.

        find_task("harness:hellaswag@5")

    Raises:
        UnknownTask: as `get_task`, or as `find_harness_task`.
        MissingExtra: lm-evaluation-harness is not installed.
    """
    return find_harness_task(task) if task.startswith(HARNESS_PREFIX) else get_task(task)


def get_task(task: str) -> Task:
    """The task with this name in the catalogue, or the task that this YAML file describes.

    Raises:
        UnknownTask: the catalogue has no such task (the message lists its tasks), or the file does
            not describe a task with the file's name.
    """
    if task.endswith(TASK_FILE_SUFFIXES):
        return _task_from_file(Path(task))
    if task not in task_names():
        raise UnknownTask(
            f"unknown task {task!r}; choose from {', '.join(task_names())}, or give the path of a "
            f".yaml file, or {HARNESS_PREFIX}NAME for a task of lm-evaluation-harness"
        )
    return _catalogue_task(task)


@cache
def _catalogue_task(name: str) -> Task:
    path = CATALOGUE_FOLDER / f"{name}.yaml"
    return validate_yaml(path.read_text("utf-8"), Task, str(path), EXAMPLE)


def _task_from_file(path: Path) -> Task:
    """The task that the user's own YAML file describes."""
    where = f"task file {path}"
    try:
        task = validate_yaml(path.read_text("utf-8"), Task, where, EXAMPLE, name=path.stem)
    except InvalidSpec as error:
        raise UnknownTask(f"{error}; docs/tasks.md has a task to copy") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UnknownTask(f"{where} cannot be read: {one_line(error)}") from error
    # Runs are compared by the name of the task, so the path must determine the name.
    if task.name != path.stem:
        raise UnknownTask(f"{where}: its name is {task.name!r}; leave `name` out")
    if task.name in task_names():
        raise UnknownTask(
            f"{where}: the catalogue has a task {task.name!r}; give your file another name"
        )
    if task.bundled is None:
        return task
    return task.model_copy(update={"bundled": str((path.parent / task.bundled).resolve())})
