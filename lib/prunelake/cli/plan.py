"""`prunelake plan`: the price of a verdict."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from prunelake.cli.console import LakeOption, load_settings, parse_numbers, parse_strategy
from prunelake.cli.read import warn_missing_results
from prunelake.cli.recommend import (
    AnswerFormat,
    CalibrationMarginOption,
    CalibrationMetricOption,
    FaithfulnessMarginOption,
)
from prunelake.lake.storage.location import Location
from prunelake.recommend.request import CalibrationMetric
from prunelake.schema.metrics import DEFAULT_MARGIN
from prunelake.schema.verdicts import DEFAULT_POWER
from prunelake.spec import DEFAULT_MODEL, task_name

if TYPE_CHECKING:
    from rich.table import Table

    from prunelake.planning.flips import FlipNeed
    from prunelake.planning.needs import CriterionNeed, VerdictPlan
    from prunelake.planning.request import PlanRequest
    from prunelake.settings import Settings


def plan(
    task: Annotated[str, typer.Option(help="Task, or the path of a .yaml file.")],
    model: Annotated[
        str, typer.Option(help="Model reference, or its last part if the lake has it.")
    ] = DEFAULT_MODEL,
    strategy: Annotated[
        str, typer.Option(help="As in `prunelake sweep`: cosine, random:SEED, mlp:cosine, ...")
    ] = "cosine",
    levels: Annotated[
        str | None, typer.Option(help="0,4,8; default: the levels of the lake's runs.")
    ] = None,
    margin: Annotated[
        float, typer.Option(help="The smallest change that matters, for each criterion.")
    ] = DEFAULT_MARGIN,
    faithfulness_margin: FaithfulnessMarginOption = None,
    calibration_margin: CalibrationMarginOption = None,
    calibration: CalibrationMetricOption = CalibrationMetric.ece,
    power: Annotated[
        float, typer.Option(help="The probability of a right verdict.")
    ] = DEFAULT_POWER,
    format: AnswerFormat = AnswerFormat.text,
    lake: LakeOption = None,
) -> None:
    """Plan the rows that a verdict needs, and their cost.

    For each criterion at each level, print how many examples the lake has, and how many decide
    whether the criterion changed. The spread of the examples comes from the runs of the lake;
    without runs it is assumed. For each level and each compared candidate in the lake, also print
    the expected flip rate, and how many examples show whether it lies below or above its margin.
    """
    from prunelake.planning.request import PlanRequest
    from prunelake.recommend.request import Margins

    settings = load_settings(lake)
    given_levels = parse_numbers(levels)
    request = PlanRequest(
        model=model,
        task=task,
        strategy=parse_strategy(strategy),
        levels=None if given_levels is None else tuple(given_levels),
        margins=Margins.with_default(margin, faithfulness_margin, calibration_margin),
        calibration=calibration,
        power=power,
        split_rows=_split_rows(task, settings),
    )
    folder = settings.lake
    verdict_plan = _plan(folder, request)
    warn_missing_results(folder)
    if format is AnswerFormat.json:
        typer.echo(verdict_plan.model_dump_json(indent=2))
    else:
        print_plan(verdict_plan)


def _plan(lake: Location, request: "PlanRequest") -> "VerdictPlan":
    """The plan for a request; a lake that does not exist yet counts as empty."""
    from prunelake.lake.sql import views
    from prunelake.planning.verdict_plan import plan_verdicts

    with (
        TemporaryDirectory() as empty,
        views.connect(lake if lake.is_dir() else Path(empty)) as lake_connection,
    ):
        return plan_verdicts(lake_connection, request)


def _split_rows(task: str, settings: "Settings") -> int | None:
    """The number of rows of a task; None if its rows are not on this machine.

    Raises:
        UnknownTask: neither the catalogue nor the lake has the task.
    """
    from prunelake.errors import DatasetNotFound, UnknownTask
    from prunelake.lake.sql.views import query
    from prunelake.tasks.catalogue import find_task
    from prunelake.tasks.rows import read_records

    try:
        found = find_task(task)
        if found.bundled is None and settings.data is None:
            return None
        return len(read_records(found, settings.data)[1])
    except DatasetNotFound:
        return None
    except UnknownTask:  # the lake may have imported it
        known = "from runs where task = $task"
        if settings.lake.is_dir() and query(settings.lake, known, task=task_name(task)).height:
            return None
        raise


def print_plan(plan: "VerdictPlan") -> None:
    """Print the examples that each criterion needs at each level, flips, cost, and the command."""
    from rich.console import Console

    from prunelake.api.findings.plan import plan_sentences

    console = Console()
    if plan.needs:
        console.print(_needs_table(plan))
    if plan.flips:
        console.print(_flips_table(plan))
    for sentence in plan_sentences(plan):
        # A command is not wrapped, so that it can be copied.
        has_command = bool(plan.command) and sentence.endswith(plan.command)
        console.print(sentence, highlight=False, markup=False, soft_wrap=has_command)


def _table(title: str, caption: str) -> "Table":
    from rich import box
    from rich.table import Table

    return Table(
        title=title,
        title_justify="left",
        caption=caption,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=0,
    )


def _needs_table(plan: "VerdictPlan") -> "Table":
    from prunelake.api.findings.wording import label, order_name

    table = _table(
        f"{plan.task}, {order_name(plan.strategy)}: examples that a verdict needs",
        "in brackets: the examples in the lake; \N{CHECK MARK} enough to decide",
    )
    table.add_column("removed", justify="right")
    metrics = list(dict.fromkeys(need.metric for need in plan.needs))
    for metric in metrics:
        table.add_column(label(metric), justify="right")
    cells = {(need.level, need.metric): need for need in plan.needs}
    for level in sorted({need.level for need in plan.needs}):
        table.add_row(str(level), *(_cell(cells[level, metric]) for metric in metrics))
    return table


def _flips_table(plan: "VerdictPlan") -> "Table":
    from prunelake.api.findings.wording import number, percent

    margin = percent(plan.flips[0].margin)
    table = _table(
        f"{plan.task}: flip rates, and examples that show them below or above {margin}",
        "expected: forecast for all rows of the baseline in the lake; without further rows the "
        "pilot's own rate",
    )
    for name in (
        "level or candidate",
        "pilot",
        "flips",
        "expected",
        "95 % interval",
        "of rows",
        "examples",
    ):
        table.add_column(name, justify="right")
    for flip in plan.flips:
        table.add_row(
            flip.label,
            f"{flip.n:,}",
            percent(flip.pilot_rate, 1),
            percent(flip.rate, 1),
            f"{number(100 * flip.low, 1)} to {percent(flip.high, 1)}",
            f"{flip.rows:,}",
            _cell(flip),
        )
    return table


def _cell(need: "CriterionNeed | FlipNeed") -> str:
    from prunelake.command_line import rounded_up

    if need.n_needed is None:
        return f"at the margin ({need.n:,})"
    if need.is_decided:
        return f"\N{CHECK MARK} ({need.n:,})"
    return f"{rounded_up(need.n_needed):,} ({need.n:,})"
