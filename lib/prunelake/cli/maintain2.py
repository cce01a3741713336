"""x"""

import typer

from prunelake.cli.app import app
from prunelake.cli.console import LakeOption, settings_for


@app.command()
def publish(lake: LakeOption = None) -> None:
    """Write the lake as one DuckDB file, prunelake.duckdb, that opens without PruneLake."""
    from prunelake.lake import publish as snapshot

    folder = settings_for(lake).lake
    is_current = snapshot.is_current(folder)
    path = snapshot.publish(folder)
    typer.echo(f"{path} is current already" if is_current else f"Published: {path}")


@app.command()
def analyse(lake: LakeOption = None) -> None:
    """Compute the statistics of every run that has none of this version; needs no GPU."""
    from prunelake.analysis.analyse import analyse as compute
    from prunelake.lake import read as store

    folder = settings_for(lake).lake
    missing = store.unanalysed(folder)
    for run_id in missing:
        compute(folder, run_id)
        typer.echo(f"analysed run {run_id}")
    if not missing:
        typer.echo("nothing to analyse")


@app.command()
def compact(lake: LakeOption = None) -> None:
    """Merge the files of many runs into few; no answer changes."""
    from prunelake.lake.compact import compact as merge

    folder = settings_for(lake).lake
    before, after = merge(folder)
    typer.echo(f"{folder}: {before} files before, {after} after")
