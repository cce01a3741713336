"""What is asked: a task is a source of rows, a prompt and options, written down in YAML."""

from functools import cache
from importlib.resources import files
from pathlib import Path
from string import Formatter
from typing import Annotated, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from prunelake.errors import UnknownTask, one_line
from prunelake.spec import TASK_FILE_SUFFIXES, FrozenValue

CATALOG_FOLDER = Path(str(files("prunelake") / "tasks" / "bundled"))


class HubDataset(FrozenValue):
    """A dataset on the Hugging Face hub."""

    repo: str
    config: str


class GoldColumn(FrozenValue):
    """Where the right answer stands: an option's index in `column`, or a key among `labels`."""

    column: str
    labels: str | None = None


class Task(FrozenValue):
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
    gold: GoldColumn
    hub: HubDataset | None = None
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


def task_names() -> list[str]:
    """The tasks of the catalog, sorted."""
    return sorted(path.stem for path in CATALOG_FOLDER.glob("*.yaml"))


def get_task(task: str) -> Task:
    """The task of that name, or of that YAML file.

    Raises:
        UnknownTask: the catalog has no such name (the message lists those there are), or the file
            does not describe a task of its own name.
    """
    if task.endswith(TASK_FILE_SUFFIXES):
        return _task_from_file(Path(task))
    if task not in task_names():
        raise UnknownTask(
            f"unknown task {task!r}; choose from {', '.join(task_names())}, or give the path of a "
            ".yaml file"
        )
    return _catalog_task(task)


@cache
def _catalog_task(name: str) -> Task:
    return Task.model_validate(yaml.safe_load((CATALOG_FOLDER / f"{name}.yaml").read_text("utf-8")))


def _task_from_file(path: Path) -> Task:
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
    if task.name in task_names():
        raise UnknownTask(
            f"task file {path}: the catalog has a task {task.name!r}; give yours another name"
        )
    if task.bundled is None:
        return task
    return task.model_copy(update={"bundled": str((path.parent / task.bundled).resolve())})
