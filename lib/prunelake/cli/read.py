"""`prunelake report`, `sql` and `views`: read the lake."""

from pathlib import Path
from typing import Annotated

import typer

from prunelake.cli.app import app
from prunelake.cli.console import Format, LakeOption, print_frame, settings_for
from prunelake.lake.storage import Location


@app.command()
def report(out: Path = Path("report.html"), lake: LakeOption = None) -> None:
    """Write what the lake shows as one HTML file that needs no network."""
    folder = settings_for(lake).lake
    _write_report(folder, out)
    _warn_of_unanalysed(folder)
    typer.echo(f"Report: {out}")


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="One SELECT; `prunelake views` lists the views.")],
    format: Format = Format.table,
    out: Annotated[Path | None, typer.Option(help="Write here (needed for parquet).")] = None,
    lake: LakeOption = None,
) -> None:
    """Ask the lake a question in SQL."""
    from prunelake.lake import views

    folder = settings_for(lake).lake
    rows = views.query(folder, query)
    _warn_of_unanalysed(folder)
    print_frame(rows, format, out)


@app.command(name="views")
def list_views(
    format: Format = Format.table,
    out: Annotated[Path | None, typer.Option(help="Write here (needed for parquet).")] = None,
    lake: LakeOption = None,
) -> None:
    """List the views, their columns and what one row of each is."""
    from prunelake.lake import views

    with views.connect(settings_for(lake).lake) as connection:
        described = views.describe(connection)
    if format is not Format.table or out is not None:
        print_frame(described, format, out)
        return
    for view in described.iter_rows(named=True):
        columns = ", ".join(f"{column['name']} {column['type']}" for column in view["columns"])
        typer.echo(f"{view['view']}\n  {view['comment']}\n  columns: {columns}\n")


def _warn_of_unanalysed(lake: Location) -> None:
    from prunelake.lake.read import unanalysed

    if count := len(unanalysed(lake)):
        typer.echo(
            f"runs without analysis, and so without intervals and verdicts: {count}; "
            "`prunelake analyse` adds it",
            err=True,
        )


def _write_report(lake: Location, out: Path) -> None:
    from api.report import write_report

    write_report(lake, out)
