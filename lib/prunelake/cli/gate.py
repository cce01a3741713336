"""`prunelake gate`: check release criteria by exit code."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from prunelake.cli.console import LakeOption, load_settings
from prunelake.errors import PruneLakeError
from prunelake.extras import naming_extras

ERROR_CODE = 2
"""Code 1 means that a candidate is worse, so no error may end with it."""


def gate(
    file: Annotated[Path, typer.Argument(help="A YAML file with criteria.")],
    lake: LakeOption = None,
) -> None:
    """Check the criteria of a release against the results in the lake.

    Exit codes: 0 all criteria are met, 1 a candidate is worse beyond a margin, 3 undecided with
    these rows, 2 an error. Missing results never pass.
    """
    with _errors_as_code_2():
        from prunelake.cli.gate_table import print_gate
        from prunelake.gate.check import check_gate
        from prunelake.gate.gate_file import read_gate

        result = check_gate(load_settings(lake).lake, read_gate(file))
        print_gate(result)
    raise typer.Exit(result.exit_code)


@contextmanager
def _errors_as_code_2() -> Iterator[None]:
    """End with code 2 after any error, also after a defect of PruneLake."""
    try:
        with naming_extras():
            yield
    except PruneLakeError as error:
        typer.echo(f"error: {error}", err=True)
    except Exception:
        traceback.print_exc()
    else:
        return
    sys.exit(ERROR_CODE)
