"""`prunelake gate`: check release criteria by exit code."""

import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer

from prunelake.cli.console import LakeOption, load_settings
from prunelake.errors import PruneLakeError, one_line
from prunelake.extras import naming_extras
from prunelake.gate.reports import ERROR_CODE, check_report_paths, write_reports


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
    lake: LakeOption = None,
) -> None:
    """Check the criteria of a release against the results in the lake.

    Exit codes: 0 all criteria are met, 1 a candidate is worse beyond a margin, 3 undecided with
    these rows, 2 an error. Missing results never pass.
    """
    paths = {"json": json, "junit": junit, "markdown": markdown}
    with _errors_as_code_2(paths):
        from prunelake.cli.gate_table import print_gate
        from prunelake.gate.check import check_gate
        from prunelake.gate.gate_file import read_gate

        check_report_paths(paths)
        result = check_gate(load_settings(lake).lake, read_gate(file))
        write_reports(result, paths)
        print_gate(result)
    raise typer.Exit(result.exit_code)


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
    except Exception as error:
        message = one_line(error)
        traceback.print_exc()
    else:
        return
    with suppress(PruneLakeError):  # the first error counts
        write_reports(message, paths)
    sys.exit(ERROR_CODE)
