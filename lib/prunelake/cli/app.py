"""The command line. An error is one line on stderr."""

import atexit
import errno
import os
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from prunelake.cli.compare import compare
from prunelake.cli.demo import demo
from prunelake.cli.export import export
from prunelake.cli.gate import gate
from prunelake.cli.imports import import_app
from prunelake.cli.inspect import inspect
from prunelake.cli.interruption import end_if_interrupted
from prunelake.cli.maintain import analyse, compact, doctor, gc, publish, retire
from prunelake.cli.plan import plan
from prunelake.cli.profile import profile
from prunelake.cli.read import list_views, report, sql
from prunelake.cli.recommend import recommend
from prunelake.cli.serve import serve
from prunelake.cli.sweep import sweep
from prunelake.cli.task import task_app
from prunelake.cli.watch import watch
from prunelake.errors import PruneLakeError
from prunelake.extras import naming_extras

app = typer.Typer(
    help="Measure how removing attention layers changes accuracy, confidence and explanations.",
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # markup would interpret [brackets] and :100: in help texts
)
FIRST_STEPS = """\
PruneLake measures how removing layers changes a language
model: accuracy, calibration, faithfulness of explanations.

  prunelake demo --recorded
      see recorded results; computes nothing
  prunelake sweep --task everyday_knowledge --methods none
      evaluate the default model; minutes on a laptop
  prunelake sweep --model hub:ORG/NAME --task boolq
      evaluate your own model, with explanations
  prunelake task check FILE.yaml
      check a task of your own
  prunelake sql "from verdicts"
      ask the lake

All commands: prunelake --help
"""
"""Fits 60 columns."""


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"prunelake {version('prunelake')}")
        raise typer.Exit


@app.callback()
def first_steps(
    context: typer.Context,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Measure how removing attention layers changes accuracy, confidence and explanations."""
    if context.invoked_subcommand is None:
        typer.echo(FIRST_STEPS, nl=False)


# The help lists them in this order: evaluate, decide, read, import, maintain.
app.command()(demo)
app.command()(sweep)
app.command()(compare)
app.command()(plan)
app.command()(watch)
app.command()(profile)
app.command()(recommend)
app.command()(gate)
app.command()(export)
app.command()(sql)
app.command(name="views")(list_views)
app.command()(report)
app.command()(serve)
app.command()(publish)
app.add_typer(import_app, name="import")
app.command()(inspect)
app.add_typer(task_app, name="task")
app.command()(analyse)
app.command()(doctor)
app.command()(compact)
app.command()(retire)
app.command()(gc)


def main() -> None:
    """Run the command line; a PruneLakeError becomes one line and exit code 1."""
    # Exit functions run in reverse order: these run last.
    atexit.register(_close_stderr)
    atexit.register(end_if_interrupted)
    try:
        with naming_extras():
            app()
    except PruneLakeError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        typer.echo("error: the output cannot be written: no space left on its device", err=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python flushes the rest at exit
        sys.exit(1)


def _close_stderr() -> None:
    """Close stderr for the rest of the process.

    Prefect keeps references to a flow's parameter types until the interpreter has ended. Through
    them DuckDB's binding stays alive and prints a page about "leaked" objects.
    """
    sys.stderr.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
