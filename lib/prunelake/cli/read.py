"""`prunelake report`, `sql` and `views`: read the lake."""

from pathlib import Path
from typing import Annotated

import typer

from prunelake.cli.console import LakeOption, OutputFormat, load_settings, print_frame
from prunelake.lake.storage import Location


def report(out: Path = Path("report.html"), lake: LakeOption = None) -> None:
    """Write what the lake shows as one HTML file that needs no network."""
    folder = load_settings(lake).lake
    _write_report(folder, out)
    _warn_unanalysed_runs(folder)
    typer.echo(f"Report: {out}")


def sql(
    query: Annotated[str, typer.Argument(help="One SELECT; `prunelake views` lists the views.")],
    format: OutputFormat = OutputFormat.table,
    out: Annotated[Path | None, typer.Option(help="Write here (needed for parquet).")] = None,
    lake: LakeOption = None,
) -> None:
    """Ask the lake a question in SQL."""
    from prunelake.lake import views

    folder = load_settings(lake).lake
    rows = views.query(folder, query)
    _warn_unanalysed_runs(folder)
    print_frame(rows, format, out)


def list_views(
    format: OutputFormat = OutputFormat.table,
    out: Annotated[Path | None, typer.Option(help="Write here (needed for parquet).")] = None,
    lake: LakeOption = None,
) -> None:
    """List the views, their columns and what one row of each is."""
    from prunelake.lake import views

    with views.connect(load_settings(lake).lake) as connection:
        described = views.describe_views(connection)
    if format is not OutputFormat.table or out is not None:
        print_frame(described, format, out)
        return
    for view in described.iter_rows(named=True):
        columns = ", ".join(f"{column['name']} {column['type']}" for column in view["columns"])
        typer.echo(f"{view['view']}\n  {view['comment']}\n  columns: {columns}\n")


def _warn_unanalysed_runs(lake: Location) -> None:
    from prunelake.lake.read import unanalysed_run_ids

    if count := len(unanalysed_run_ids(lake)):
        typer.echo(
            f"runs without analysis, and so without intervals and verdicts: {count}; "
            "`prunelake analyse` adds it",
            err=True,
        )


def _write_report(lake: Location, out: Path) -> None:
    from api.report.document import write_report

    write_report(lake, out)
