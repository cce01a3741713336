"""`prunelake gate`: check release criteria by exit code."""

import shlex
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunelake.cli.console import LakeOption, load_settings
from prunelake.cli.sweep import Until
from prunelake.errors import InvalidSpec, PruneLakeError, one_line
from prunelake.extras import naming_extras
from prunelake.gate.reports import ERROR_CODE, check_report_paths, write_reports
from prunelake.gate.results import Result

if TYPE_CHECKING:
    from prunelake.gate.gate_file import Gate
    from prunelake.gate.results import GateResult
    from prunelake.settings import Settings

INTERRUPTED_CODE = 130
"""The usual code of a process that was interrupted; typer's own code for this would be 1."""


def gate(
    file: Annotated[Path, typer.Argument(help="A YAML file with criteria.")],
    json: Annotated[
        Path | None, typer.Option("--json", help="Write all numbers to this file.")
    ] = None,
    junit: Annotated[
        Path | None, typer.Option("--junit", help="Write JUnit XML for a CI server.")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", help="Write Markdown for a pull request.")
    ] = None,
    until: Annotated[
        Until | None, typer.Option(help="decided: add rows in rounds until the gate is decided.")
    ] = None,
    max_rows: Annotated[int | None, typer.Option(help="With --until: stop at n rows.")] = None,
    max_minutes: Annotated[
        float | None, typer.Option(help="With --until: start no round that would exceed n minutes.")
    ] = None,
    lake: LakeOption = None,
) -> None:
    """Check the criteria of a release; the exit code is the answer.

    The file names runs in the lake, or models to evaluate.

    Exit codes: 0 all criteria are met, 1 a candidate is worse beyond a margin, 2 an error,
    3 undecided with these rows. Missing results never pass.
    """
    paths = {"json": json, "junit": junit, "markdown": markdown}
    with _errors_as_code_2({}):
        check_report_paths(paths, file)
        if until is None and (max_rows, max_minutes) != (None, None):
            raise InvalidSpec("--max-rows and --max-minutes need --until decided")
    with _errors_as_code_2(paths):
        from prunelake.cli.text.gate_table import print_gate
        from prunelake.gate.gate_file import read_gate

        criteria, settings = read_gate(file), load_settings(lake)
        if until is not None:
            result = _decide(criteria, max_rows, max_minutes, settings)
        else:
            result = _check(criteria, settings)
        write_reports(result, paths)
        with suppress(SystemExit):  # rich ends the process if the reader of a pipe is gone
            print_gate(result)
            if result.result is Result.undecided:
                typer.echo(_next_step(file, lake, criteria, until))
    raise typer.Exit(result.exit_code)


def _next_step(file: Path, lake: str | None, criteria: "Gate", until: Until | None) -> str:
    """The remedy for an undecided gate."""
    if until is not None:
        return "The gate has used all planned rows or reached a limit."
    if criteria.runs:
        return "To decide: evaluate more rows, or name model or baseline in place of runs."
    option = f" --lake {shlex.quote(lake)}" if lake else ""
    return f"Next: prunelake gate {shlex.quote(str(file))} --until decided{option}"


def _check(criteria: "Gate", settings: "Settings") -> "GateResult":
    if criteria.rows is None:
        from prunelake.gate.check import check_gate

        return check_gate(settings.lake, criteria)
    from prunelake.cli.evaluate import evaluate
    from prunelake.gate.measure import measure_and_check

    return measure_and_check(
        criteria, criteria.rows, settings, lambda spec: evaluate(spec, settings)
    )


def _decide(
    criteria: "Gate", max_rows: int | None, max_minutes: float | None, settings: "Settings"
) -> "GateResult":
    from prunelake.cli.evaluate import evaluate
    from prunelake.gate.until_decided import gate_until_decided
    from prunelake.sweeps.until_decided.run import Limits

    return gate_until_decided(
        criteria,
        Limits(max_rows=max_rows, max_minutes=max_minutes),
        settings,
        lambda spec: evaluate(spec, settings),
        lambda finished: typer.echo(str(finished), err=True),
    )


@contextmanager
def _errors_as_code_2(paths: Mapping[str, Path | None]) -> Iterator[None]:
    """End with code 2 after any error: code 1 means that a candidate is worse.

    The reports then hold the message.
    """
    try:
        with naming_extras():
            yield
    except PruneLakeError as error:
        message = str(error)
        typer.echo(f"error: {message}", err=True)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED_CODE)
    except Exception as error:
        message = one_line(error)
        traceback.print_exc()
    else:
        return
    with suppress(PruneLakeError):  # the first error counts
        write_reports(message, paths)
    sys.exit(ERROR_CODE)
