"""`prunelake report`, `sql` and `views`: read the lake."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunelake.cli.console import FormatOption, LakeOption, OutOption, load_settings
from prunelake.errors import InvalidSpec
from prunelake.lake.storage.location import Location

if TYPE_CHECKING:
    import polars as pl

    from prunelake.lake.sql.bound_query import Connection


def report(
    out: Annotated[Path, typer.Option(help="The HTML file.")] = Path("report.html"),
    lake: LakeOption = None,
) -> None:
    """Write a report on the lake as one HTML file.

    The file needs no network.
    """
    folder = load_settings(lake).lake
    write_report(folder, out)
    warn_missing_results(folder)
    option = "" if lake is None else f" --lake {shlex.quote(lake)}"
    typer.echo(f"Report: {out}\nNext: prunelake serve{option}")


def sql(
    query: Annotated[str, typer.Argument(help="One SELECT; `prunelake views` lists the views.")],
    format: FormatOption = None,
    out: OutOption = None,
    seconds: Annotated[float, typer.Option(help="The time limit in seconds.")] = 60.0,
    lake: LakeOption = None,
) -> None:
    """Query the lake in SQL.

    A table that is wider than the terminal continues below. `--out x.parquet` keeps all digits.
    """
    from prunelake.cli.interruption import quick_stop
    from prunelake.cli.text.rows import print_frame
    from prunelake.cli.time_limit import time_limit
    from prunelake.lake.sql import views

    if not seconds > 0:
        raise InvalidSpec(f"--seconds {seconds:g} is not above 0")
    folder = load_settings(lake).lake

    def answer(connection: "Connection") -> "pl.DataFrame":
        with time_limit(connection, seconds):
            return views.select_read_only(connection, query)

    with quick_stop(can_continue=False):
        rows = views.ask_lake(folder, answer)
    warn_missing_results(folder)
    print_frame(rows, format, out)
    if rows.is_empty():
        typer.echo("no rows", err=True)


def list_views(
    format: FormatOption = None,
    out: OutOption = None,
    lake: LakeOption = None,
) -> None:
    """List the views with their grain, meaning and columns."""
    from prunelake.lake.sql import views

    with views.connect(load_settings(lake).lake) as connection:
        descriptions = views.describe_views(connection)
    if format is not None or out is not None:
        from prunelake.cli.text.rows import print_frame

        print_frame(descriptions, format, out)
        return
    for view in descriptions.iter_rows(named=True):
        columns = ", ".join(f"{column['name']} {column['type']}" for column in view["columns"])
        typer.echo(f"{view['view']}\n  {view['comment']}\n  columns: {columns}\n")


def warn_missing_results(lake: Location) -> None:
    """Say on stderr which runs are hidden by damaged files, and how many have no analysis."""
    from prunelake.lake.read import damaged_run_ids, unanalysed_run_ids

    if not lake.is_dir():
        return
    if hidden := damaged_run_ids(lake):
        typer.echo(
            f"runs hidden because a file is damaged: {', '.join(hidden)}; the view damaged_runs "
            "lists the files and the remedy",
            err=True,
        )
    if count := len(unanalysed_run_ids(lake)):
        typer.echo(
            f"runs without an analysis, so without intervals and verdicts: {count}; "
            "`prunelake analyse` computes the analyses",
            err=True,
        )


def write_report(lake: Location, out: Path) -> None:
    """Write the report on a lake to `out`; imports the API only when it is called."""
    from prunelake.api.report import document

    document.write_report(lake, out)
