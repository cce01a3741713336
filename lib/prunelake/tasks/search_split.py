"""Rows of a task that a sweep does not report, for whatever must not see those it does."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from prunelake.errors import DatasetNotFound, InvalidSpec
from prunelake.tasks import rows
from prunelake.tasks.catalogue import Task
from prunelake.tasks.rows import Example


def draw_search_examples(
    task: Task, count: int, reported: Sequence[Example], data: Path | None
) -> list[Example]:
    """`count` examples, drawn with one fixed seed, in row order, none of them among `reported`.

    They are rows of the task's first `spare` split: on the hub, or the first that the folder `data`
    has a file of. A task without a spare split gives further rows of its own. A row whose prompt is
    also reported counts as reported.

    Raises:
        DatasetNotFound, BadRow: as `rows.load_examples`; or a data folder has no spare split.
        InvalidSpec: too few rows.
    """
    source = _search_split(task, data)
    origin, records = rows.read_records(source, data)
    prompts = {example.prompt for example in reported}
    found: dict[int, Example] = {}
    for number in np.random.default_rng(0).permutation(len(records)).tolist():
        if len(found) == count:
            break
        example = rows.build_example(source, origin, number, records[number])
        if example.prompt not in prompts:
            found[number] = example
    if len(found) < count:
        there = f"{len(found)} that are not reported" if found else "none that is not reported"
        lower = f", or set strategy.search_rows to at most {len(found)}" if found else ""
        raise InvalidSpec(
            f"{task.name}: {count} rows are to be searched on, and {origin} has {there}; report "
            f"fewer rows{lower}"
        )
    return [found[number] for number in sorted(found)]


def _search_split(task: Task, data: Path | None) -> Task:
    """The task with the split that these rows come from."""
    splits = [task.model_copy(update={"split": split}) for split in task.spare]
    if not splits:
        return task
    if data is None:
        return splits[0]
    for source in splits:
        if (data / source.file).is_file():
            return source
    files = " or ".join(str(data / source.file) for source in splits)
    raise DatasetNotFound(
        f"task {task.name}: no file {files} to search on; put one there, or unset PRUNELAKE_DATA "
        "to read the hub"
    )
