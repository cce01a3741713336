"""Commands that maintain a lake: `doctor`, `retire`, `publish`, `analyse`, `compact`, `gc`."""

from enum import StrEnum
from typing import Annotated

import typer

from prunelake.cli.console import LakeOption, load_settings
from prunelake.cli.read import warn_missing_results


def doctor(
    quarantine: Annotated[
        bool, typer.Option("--quarantine", help="Move damaged files and their runs aside.")
    ] = False,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Restore lost runs, and compute missing analyses."),
    ] = False,
    lake: LakeOption = None,
) -> None:
    """Check every file of the lake.

    Each file is checked against its run, schema and hash. Only the options change files; each
    change is one line of output. The exit code is 1 if a problem remains.
    """
    from prunelake.analysis.analyse import analyse as analyse_run
    from prunelake.lake import read
    from prunelake.lake.files.findings import FindingKind
    from prunelake.lake.maintenance import repair as lake_repair
    from prunelake.lake.maintenance.verify import verify_lake

    folder = load_settings(lake).lake
    if quarantine:
        for line in lake_repair.quarantine(folder):
            typer.echo(line)
    if repair:
        for line in lake_repair.repair(folder, analyse_run):
            typer.echo(line)
    findings = verify_lake(folder)
    for finding in findings:
        typer.echo(f"{finding.file}: {finding.problem}; {finding.remedy}")
    if not findings:
        typer.echo(f"{folder}: {len(read.run_ids(folder))} runs, all files are intact")
        return
    kinds = {finding.kind for finding in findings}
    if FindingKind.damaged in kinds:
        typer.echo("`prunelake doctor --quarantine` moves damaged files aside", err=True)
    if kinds & {FindingKind.lost, FindingKind.disposable, FindingKind.unanalysed}:
        typer.echo(
            "`prunelake doctor --repair` restores lost runs and computes missing analyses",
            err=True,
        )
    if FindingKind.orphaned in kinds:
        typer.echo("`prunelake gc` deletes files that belong to no run", err=True)
    raise typer.Exit(1)


def retire(
    keep: Annotated[int, typer.Option(min=1, help="The number of newest revisions to keep.")] = 1,
    imports: Annotated[
        bool, typer.Option("--imports", help="Include imports that a later import replaced.")
    ] = False,
    delete: Annotated[bool, typer.Option("--delete", help="Remove the listed runs.")] = False,
    lake: LakeOption = None,
) -> None:
    """List or remove runs of superseded model revisions.

    For each combination of model, task, strategy and settings the newest revisions stay. Removed
    runs are hidden at once; `compact` and `gc` free their space. The published snapshot changes
    only with the next `prunelake publish`.
    """
    from prunelake.lake.maintenance import retention
    from prunelake.lake.open_tables.register import refresh_tables

    folder = load_settings(lake).lake
    if delete:
        superseded = retention.retire(folder, keep, imports)
        refresh_tables(folder)
    else:
        superseded = retention.find_superseded(folder, keep, imports)
    for run in superseded:
        typer.echo(
            f"{'removed' if delete else 'superseded'}: run {run.run_id} of "
            f"{run.created_at:%Y-%m-%d} ({run.model} {run.revision[:12]}, {run.task}, "
            f"{run.strategy}), newer: run {run.superseded_by}"
        )
    if not superseded:
        typer.echo("no run is superseded")
    elif not delete:
        typer.echo(f"runs superseded: {len(superseded)}; add --delete to remove them")


class TableFormat(StrEnum):
    """The open table formats in which other engines read the data files of the lake."""

    delta = "delta"
    iceberg = "iceberg"


def publish(
    format: Annotated[
        TableFormat | None,
        typer.Option(help="Register the tables for other engines instead; no file is copied."),
    ] = None,
    lake: LakeOption = None,
) -> None:
    """Write the lake as one DuckDB file, prunelake.duckdb.

    The file opens without PruneLake. With --format, Spark, polars and other engines read the same
    data files as Delta or Iceberg tables; later runs are added to these tables.
    """
    from prunelake.analysis.analyse import analyse as analyse_run
    from prunelake.lake import publish as snapshot
    from prunelake.lake.open_tables.register import refresh_tables, register_tables

    folder = load_settings(lake).lake
    if format is not None:
        register_tables(folder, format.value)
        warn_missing_results(folder)
        typer.echo(f"{folder}: tables registered as {format.value.capitalize()} tables")
        return
    is_current = snapshot.is_current(folder)
    path = snapshot.publish(folder, analyse_run)
    refresh_tables(folder)
    warn_missing_results(folder)
    typer.echo(f"{path} is current already" if is_current else f"Published: {path}")


def analyse(lake: LakeOption = None) -> None:
    """Compute missing statistics of runs; needs no GPU.

    A run needs them if it has no analysis of the current version.
    """
    from prunelake.analysis.analyse import analyse as analyse_run
    from prunelake.lake import read

    folder = load_settings(lake).lake
    missing = read.unanalysed_run_ids(folder)
    for run_id in missing:
        analyse_run(folder, run_id)
        typer.echo(f"analysed run {run_id}")
    if not missing:
        typer.echo("nothing to analyse")


def compact(lake: LakeOption = None) -> None:
    """Merge the files of many runs; no result changes.

    Readers then open fewer files. `prunelake gc` deletes the replaced files later.
    """
    from prunelake.lake.maintenance.compact import compact as compact_lake
    from prunelake.lake.open_tables.register import refresh_tables

    folder = load_settings(lake).lake
    before, after = compact_lake(folder)
    refresh_tables(folder)
    typer.echo(f"{folder}: readers open {after} files instead of {before}")


def gc(
    hours: Annotated[
        float, typer.Option(min=0, help="Keep files that were needed within these hours.")
    ] = 24.0,
    lake: LakeOption = None,
) -> None:
    """Delete files that no reader needs any more.

    They were replaced by `compact`, removed by `retire`, or left by a writer that died. Damaged
    files and files of lost runs stay for `doctor`.
    """
    from datetime import timedelta

    from prunelake.lake.maintenance.garbage import collect_garbage
    from prunelake.lake.open_tables.register import refresh_tables

    folder = load_settings(lake).lake
    refresh_tables(folder)  # they must not list a file that is deleted
    count = collect_garbage(folder, timedelta(hours=hours))
    typer.echo(f"{folder}: deleted files: {count}")
