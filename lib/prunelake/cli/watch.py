"""`prunelake watch`: evaluate new and changed models."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunelake.cli.console import LakeOption, load_settings
from prunelake.cli.evaluate import evaluate
from prunelake.cli.interruption import quick_stop

if TYPE_CHECKING:
    from prunelake.watch.evaluations import Evaluation
    from prunelake.watch.round_lines import RoundLine


def watch(
    watchlist: Annotated[
        Path, typer.Argument(help="A YAML file; docs/operations.md describes its fields.")
    ],
    deploy: Annotated[
        bool,
        typer.Option(
            "--deploy",
            help="Hand the sweeps to the workers of the Prefect server at PREFECT_API_URL.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the missing evaluations and start none.")
    ] = False,
    retry: Annotated[
        bool, typer.Option("--retry", help="Start failed and parked evaluations at once.")
    ] = False,
    lake: LakeOption = None,
) -> None:
    """Evaluate new and changed models on a watchlist.

    Evaluations that the lake has are not repeated. By default they run in this process.
    """
    from prunelake.watch.decision import EvaluationState
    from prunelake.watch.launcher import Launcher, LocalLauncher
    from prunelake.watch.rounds import WatchRound
    from prunelake.watch.watchlist import read_watchlist

    settings = load_settings(lake)
    entries = read_watchlist(watchlist)
    launcher: Launcher
    if deploy:
        from prunelake.flows.watch import DeploymentLauncher

        launcher = DeploymentLauncher()
    else:

        def run(evaluation: "Evaluation") -> None:
            from prunelake.comparison.run import run_comparison  # it loads torch
            from prunelake.comparison_spec import ComparisonSpec

            spec, model = evaluation.spec, evaluation.model_revision.model
            typer.echo(f"{spec.task_name}, {evaluation.kind}, {model}:")
            if isinstance(spec, ComparisonSpec):
                run_comparison(spec, settings, lambda sweep: evaluate(sweep, settings))
            else:
                evaluate(spec, settings)

        launcher = LocalLauncher(run)
    with quick_stop():
        lines = WatchRound(entries, settings, launcher, is_retry=retry, is_dry=dry_run).run()
    print_round(lines)
    if any(line.state in (EvaluationState.failed, EvaluationState.unreachable) for line in lines):
        raise typer.Exit(1)


def print_round(lines: "Sequence[RoundLine]") -> None:
    """Print the lines of a round as a table, and their summary."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from prunelake.watch.decision import EvaluationState
    from prunelake.watch.round_lines import summary

    console = Console()
    if lines:
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
        table.add_column("state", no_wrap=True)
        # Names and details are long. In one column they stay readable in 80 characters.
        table.add_column("evaluation, and detail", overflow="fold")
        for line in sorted(lines, key=lambda line: list(EvaluationState).index(line.state)):
            name = " ".join(filter(None, (line.task, line.strategy, line.model)))
            detail = f"\n{line.detail}" if line.detail else ""
            table.add_row(Text(line.state), Text(name).append(detail, "dim"))
        console.print(table)
    console.print(summary(lines), highlight=False, markup=False)
