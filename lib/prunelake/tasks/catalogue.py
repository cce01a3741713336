"""Tasks: each is a source of rows, a prompt and options, described in a YAML file."""

from functools import cache
from importlib.resources import files
from pathlib import Path
from string import Formatter
from typing import Annotated, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from prunelake.errors import UnknownTask, one_line, validation_message
from prunelake.spec import TASK_FILE_SUFFIXES, FrozenValue

CATALOGUE_FOLDER = Path(str(files("prunelake") / "tasks" / "bundled"))


class HubDataset(FrozenValue):
    """A dataset on the Hugging Face hub."""

    repo: str
    config: str


class GoldColumn(FrozenValue):
    """The columns that give the right option.

    `column` holds the index of the option or, if `labels` names a column with a list of labels, the
    label of the option.
    """

    column: str
    labels: str | None = None


class Task(FrozenValue):
    """One task, from the catalogue or from the user's own YAML file.

    - `prompt`: a format string over the text columns of a row.
    - `options`: the texts of the options, or the name of the column that lists them for each row (a
      dot steps into a struct: `choices.text`).
    - `bundled`: a file of rows beside the YAML file. Without it, the rows come from `hub`, or from
      `folder` in a data folder (by default the folder with the task's name).
    - `spare`: splits that are never reported, so that a search may read them, the best one first.
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
        """The path of the file of rows below a data folder."""
        return f"{self.folder or self.name}/{self.split}.jsonl"

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the prompt contains."""
        return tuple(field for _, field, _, _ in Formatter().parse(self.prompt) if field)


def task_names() -> list[str]:
    """The names of the tasks in the catalogue, sorted."""
    return sorted(path.stem for path in CATALOGUE_FOLDER.glob("*.yaml"))


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
            ".yaml file"
        )
    return _catalogue_task(task)


@cache
def _catalogue_task(name: str) -> Task:
    return Task.model_validate(
        yaml.safe_load((CATALOGUE_FOLDER / f"{name}.yaml").read_text("utf-8"))
    )


def _task_from_file(path: Path) -> Task:
    """The task that the user's own YAML file describes."""
    try:
        task = Task.model_validate(yaml.safe_load(path.read_text("utf-8")))
    except ValidationError as error:
        problems = validation_message(error.errors(), whole="the file")
        raise UnknownTask(f"task file {path}: {problems}") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UnknownTask(f"task file {path} cannot be read: {one_line(error)}") from error
    # Runs are compared by the name of the task, so a path has to determine it.
    if task.name != path.stem:
        raise UnknownTask(f"task file {path}: its name is {task.name!r}; name it {path.stem!r}")
    if task.name in task_names():
        raise UnknownTask(
            f"task file {path}: the catalogue has a task {task.name!r}; give yours another name"
        )
    if task.bundled is None:
        return task
    return task.model_copy(update={"bundled": str((path.parent / task.bundled).resolve())})
