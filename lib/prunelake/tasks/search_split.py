"""Draw examples for a search: rows of a task that the sweep does not report."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from prunelake.errors import InvalidSpec
from prunelake.tasks.catalogue import Task
from prunelake.tasks.harness import HarnessTask
from prunelake.tasks.hub import first_data_file
from prunelake.tasks.rows import Example, build_example, read_records


def draw_search_examples(
    task: Task | HarnessTask,
    example_count: int,
    reported: Sequence[Example],
    data_folder: Path | None,
) -> list[Example]:
    """`example_count` examples that are not reported, drawn with a fixed seed, in row order.

    They come from the first `spare` split of the task that the data folder has or, without a data
    folder, from the first `spare` split on the hub. A task without a spare split gives unreported
    rows of its own split. A row with the prompt of a reported row counts as reported.

    Raises:
        DatasetNotFound, BadRow: as `load_examples`; or the data folder has no spare split.
        InvalidSpec: there are too few rows.
    """
    source = _search_split(task, data_folder)
    origin, records = read_records(source, data_folder)
    reported_prompts = {example.prompt for example in reported}
    drawn: dict[int, Example] = {}
    order = np.random.default_rng(0).permutation(len(records)).tolist()
    if source is task:
        # A sample takes rows from the front of this order. Rows from the back stay unreported, and
        # the search the same, when the sample grows.
        order.reverse()
    for number in order:
        if len(drawn) == example_count:
            break
        example = build_example(source, origin, number, records[number])
        if example.prompt not in reported_prompts:
            drawn[number] = example
    if len(drawn) < example_count:
        remedy = f", or set --search-rows to at most {len(drawn)}" if drawn else ""
        raise InvalidSpec(
            f"{task.name}: the search needs {example_count} rows that are not reported, but "
            f"{origin} has {len(drawn)}; report fewer rows{remedy}"
        )
    return [drawn[number] for number in sorted(drawn)]


def _search_split(task: Task | HarnessTask, data_folder: Path | None) -> Task | HarnessTask:
    """The task with the split from which the search draws its rows."""
    if isinstance(task, HarnessTask):
        return task
    splits = [task.model_copy(update={"split": split}) for split in task.spare]
    if not splits:
        return task
    if data_folder is None:
        return splits[0]
    paths = [data_folder / split.file for split in splits]
    path = first_data_file(paths, f"task {task.name}, rows for the search")
    return splits[paths.index(path)]
