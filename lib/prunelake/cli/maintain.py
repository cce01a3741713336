"""What keeps a lake in order: `prunelake doctor` and `prunelake retire`."""

from typing import Annotated

import typer

from prunelake.cli.console import LakeOption, settings_for


def doctor(
    migrate: Annotated[
        bool, typer.Option("--migrate", help="First bring runs of older versions to this one.")
    ] = False,
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
    from prunelake import migrate as migration
    from prunelake.lake import read as store
    from prunelake.lake import repair as repairs
    from prunelake.lake.verify import Kind
    from prunelake.lake.verify import doctor as check

    folder = settings_for(lake).lake
    for is_asked, act in (
        (migrate, migration.migrate),
        (quarantine, repairs.quarantine),
        (repair, repairs.repair),
    ):
        for line in act(folder) if is_asked else ():
            typer.echo(line)
    findings = check(folder)
    for finding in findings:
        typer.echo(f"{finding.file}: {finding.problem}; {finding.remedy}")
    if not findings:
        typer.echo(f"{folder}: {len(store.run_ids(folder))} runs, every file as it was written")
        return
    kinds = {finding.kind for finding in findings}
    if Kind.damaged in kinds:
        typer.echo("`prunelake doctor --quarantine` moves damaged files aside", err=True)
    if kinds & {Kind.left_over, Kind.spent, Kind.unanalysed}:
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

    folder = settings_for(lake).lake
    if delete:
        found = retention.retire(folder, keep, imports)
    else:
        found = retention.superseded(folder, keep, imports)
    for run in found:
        typer.echo(
            f"{'removed' if delete else 'superseded'}: run {run.run_id} of "
            f"{run.created_at:%Y-%m-%d} ({run.model} {run.revision[:12]}, {run.task}, "
            f"{run.strategy}), by run {run.by}"
        )
    if not found:
        typer.echo("no run is superseded")
    elif not delete:
        typer.echo(f"runs superseded: {len(found)}; add --delete to remove them")
