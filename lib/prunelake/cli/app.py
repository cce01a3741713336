"""The command line: each command does one thing and says in one line what went wrong."""

import atexit
import os
import sys

import typer

from prunelake.cli.export import export
from prunelake.cli.imports import imports
from prunelake.cli.maintain import doctor, retire
from prunelake.cli.profile import profile
from prunelake.cli.recommend import recommend
from prunelake.cli.serve import serve
from prunelake.cli.watch import watch
from prunelake.errors import PruneLakeError

app = typer.Typer(
    help="What removing attention layers does to accuracy, confidence and explanations.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # it would read [brackets] and :100: in help texts
)


app.add_typer(imports, name="import")


app.command()(serve)


app.command()(watch)


app.command()(doctor)


app.command()(retire)


app.command()(export)


app.command()(profile)


app.command()(recommend)


def main() -> None:
    """Run the command line; what PruneLake refuses becomes one line and exit code 1."""
    atexit.register(_say_no_more)  # the first one in is the last one out
    try:
        app()
    except PruneLakeError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)


def _say_no_more() -> None:
    """Close stderr for what is left of the process.

    Prefect keeps a flow's parameter types beyond the interpreter's end, and through them DuckDB's
    binding, which then prints a page on the objects that it has "leaked".
    """
    sys.stderr.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
