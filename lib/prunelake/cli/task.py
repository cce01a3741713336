"""`prunelake task`: check a task before a sweep."""

import json
import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from prunelake.cli.console import load_settings
from prunelake.errors import BadRow

if TYPE_CHECKING:
    from prunelake.tasks.rows import Example

SHOWN_EXAMPLES = 2
NAMED_ROWS = 3

task_app = typer.Typer(
    help="Check a task before a sweep.", no_args_is_help=True, rich_markup_mode=None
)


@task_app.callback()
def _group() -> None:
    """Keep `check` a command of its own: typer would merge a single command into its group."""


@task_app.command()
def check(
    task: Annotated[str, typer.Argument(metavar="FILE", help="A task's .yaml file, or its name.")],
) -> None:
    """Check every row of a task, and print two prompts as a model sees them."""
    from prunelake.tasks.catalogue import find_task
    from prunelake.tasks.rows import build_example, read_records

    found = find_task(task)
    origin, records = read_records(found, load_settings(None).data)
    examples, problems = [], []
    for number, record in enumerate(records):
        try:
            examples.append(build_example(found, origin, number, record))
        except BadRow as error:
            problems.append(str(error))
    if problems:
        named = "; ".join(problems[:NAMED_ROWS])
        raise BadRow(f"{len(problems)} of {len(records)} rows cannot be used: {named}")
    if not examples:
        raise BadRow(f"{origin} has no rows; write one JSON object on each line")
    counts = sorted({len(example.options) for example in examples})
    options = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    typer.echo(f"Task {found.name} is ready: {len(examples)} rows with {options} options each.\n")
    for example in examples[:SHOWN_EXAMPLES]:
        _print_example(example)
    typer.echo(f"Next: prunelake sweep --task {shlex.quote(task)}")


def _print_example(example: "Example") -> None:
    """Print the prompt unchanged, and each option in quotes: a model scores its leading space."""
    typer.echo(f"--- {example.example_id}\n{example.prompt}")
    for index, option in enumerate(example.options):
        mark = "->" if index == example.gold else "  "
        typer.echo(f"{mark} {json.dumps(option, ensure_ascii=False)}")
    typer.echo("")
