"""Commands that maintain a lake: doctor, retire, publish, analyse, compact."""

from typing import Annotated

import typer

from prunelake.cli.console import LakeOption, load_settings


def doctor(
    quarantine: Annotated[
        bool, typer.Option("--quarantine", help="Move damaged files and their runs aside.")
    ] = False,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Clear what belongs to no run, and compute lost analyses."),
    ] = False,
    lake: LakeOption = None,
) -> None:
    """Check every file of the lake against its run, schema and hash.

    Nothing is changed but as an option says; what is changed is told line by line. The exit code is
    1 if anything is wrong afterwards.
    """
    from prunelake.analysis.analyse import analyse as compute_analysis
    from prunelake.lake import read as store
    from prunelake.lake import repair as repairs
    from prunelake.lake.verify import FindingKind
    from prunelake.lake.verify import verify_lake as check

    folder = load_settings(lake).lake
    if quarantine:
        for line in repairs.quarantine(folder):
            typer.echo(line)
    if repair:
        for line in repairs.repair(folder, compute_analysis):
            typer.echo(line)
    findings = check(folder)
    for finding in findings:
        typer.echo(f"{finding.file}: {finding.problem}; {finding.remedy}")
    if not findings:
        typer.echo(f"{folder}: {len(store.run_ids(folder))} runs, every file as it was written")
        return
    kinds = {finding.kind for finding in findings}
    if FindingKind.damaged in kinds:
        typer.echo("`prunelake doctor --quarantine` moves damaged files aside", err=True)
    if kinds & {FindingKind.orphaned, FindingKind.disposable, FindingKind.unanalysed}:
        typer.echo("`prunelake doctor --repair` clears leftovers, and analyses", err=True)
    raise typer.Exit(1)


def retire(
    keep: Annotated[int, typer.Option(min=1, help="Revisions to keep, the newest first.")] = 1,
    imports: Annotated[
        bool, typer.Option("--imports", help="Results of others, too, that were imported again.")
    ] = False,
    delete: Annotated[
        bool, typer.Option("--delete", help="Remove these runs; without it they are only listed.")
    ] = False,
    lake: LakeOption = None,
) -> None:
    """List the runs of model revisions that newer runs of the same settings supersede.

    Of every model, task, strategy and settings the newest revisions stay. The published snapshot
    stays as it is until the next `prunelake publish`.
    """
    from prunelake.lake import retention

    folder = load_settings(lake).lake
    if delete:
        found = retention.retire(folder, keep, imports)
    else:
        found = retention.find_superseded(folder, keep, imports)
    for run in found:
        typer.echo(
            f"{'removed' if delete else 'superseded'}: run {run.run_id} of "
            f"{run.created_at:%Y-%m-%d} ({run.model} {run.revision[:12]}, {run.task}, "
            f"{run.strategy}), by run {run.superseded_by}"
        )
    if not found:
        typer.echo("no run is superseded")
    elif not delete:
        typer.echo(f"runs superseded: {len(found)}; add --delete to remove them")


def publish(lake: LakeOption = None) -> None:
    """Write the lake as one DuckDB file, prunelake.duckdb, that opens without PruneLake."""
    from prunelake.analysis.analyse import analyse as compute_analysis
    from prunelake.lake import publish as snapshot

    folder = load_settings(lake).lake
    is_current = snapshot.is_current(folder)
    path = snapshot.publish(folder, compute_analysis)
    typer.echo(f"{path} is current already" if is_current else f"Published: {path}")


def analyse(lake: LakeOption = None) -> None:
    """Compute the statistics of every run that has none of this version; needs no GPU."""
    from prunelake.analysis.analyse import analyse as compute_analysis
    from prunelake.lake import read as store

    folder = load_settings(lake).lake
    missing = store.unanalysed_run_ids(folder)
    for run_id in missing:
        compute_analysis(folder, run_id)
        typer.echo(f"analysed run {run_id}")
    if not missing:
        typer.echo("nothing to analyse")


def compact(lake: LakeOption = None) -> None:
    """Merge the files of many runs into few; no answer changes."""
    from prunelake.lake.compact import compact as merge

    folder = load_settings(lake).lake
    before, after = merge(folder)
    typer.echo(f"{folder}: {before} files before, {after} after")
