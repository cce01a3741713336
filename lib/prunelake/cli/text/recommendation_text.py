"""Prints a recommendation: the answers, the evidence as tables, and the next command."""

import math
import shlex
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from prunelake.api.findings.recommendations import answer as answers
from prunelake.api.findings.recommendations import caveats, changes, reasons
from prunelake.api.findings.wording import MISSING, label, listed, model_name, number, order_name
from prunelake.recommend.candidates import Candidate, Check, Level
from prunelake.recommend.recommendation import Recommendation
from prunelake.recommend.request import Criterion

MET_MARK, NOT_MET_MARK = "\N{CHECK MARK}", "\N{BALLOT X}"


def print_recommendation(
    recommendation: Recommendation,
    console: Console | None = None,
    lake_option: str | None = None,
) -> None:
    """Print both answers, the evidence for every removal order, and what would change them.

    The last lines are the next commands: export the level, or settle the open checks.
    """
    console = console or Console()

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False)

    for sentence in answers.answer_sentences(recommendation):
        say(sentence)
    margins = answers.margins_text(recommendation)
    say(f"\n{model_name(recommendation.model)} on {listed(recommendation.tasks)}")
    say(f"budget: {recommendation.budget or 'none'}; margins: {margins}\n")
    after = recommendation.recalibrated.candidates
    pairs = list(zip(recommendation.as_it_is.candidates, after, strict=True))
    # Candidates share a table; a removal order has a table of its levels.
    is_comparison = any(before.label is not None for before, _ in pairs)
    for group in [pairs] if is_comparison else [[pair] for pair in pairs]:
        console.print(_evidence_table(recommendation, group))
    say(
        "Each cell is the largest loss within the one-sided "
        f"{caveats.interval_text(recommendation)} interval, for the task that is farthest from "
        f"passing: {MET_MARK} below the margin, {NOT_MET_MARK} not, {MISSING} not measured.\n"
    )
    for title, lines in (
        ("What would change the answer", changes.change_sentences(recommendation)),
        ("Limits of the answer", caveats.caveats(recommendation)),
    ):
        say(f"{title}:")
        for line in lines:
            is_command = ": prunelake " in line  # not wrapped, so that it can be copied
            console.print(f"- {line}", highlight=False, markup=False, soft_wrap=is_command)
    # Not wrapped, so that commands can be copied.
    lake = f" --lake {shlex.quote(lake_option)}" if lake_option else ""
    console.print()
    for command in changes.next_commands(recommendation):
        console.print(f"Next: {command}{lake}", highlight=False, markup=False, soft_wrap=True)


def _evidence_table(
    recommendation: Recommendation, pairs: Sequence[tuple[Candidate, Candidate]]
) -> Table:
    """level or candidate x criterion: the largest loss within the interval, for the worst task.

    A pair is a removal order, or a candidate, before and after recalibration.
    """
    first, _ = pairs[0]
    title = f"{order_name(first.strategy)}, {first.dtype or 'number format not known'}"
    table = Table(
        title=title if first.label is None else "candidates",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=0,
    )
    terms = [term for term in answers.budget_terms(recommendation) if term.name != "removed_layers"]
    calibration = label(recommendation.calibration)
    columns: list[tuple[str, Criterion, bool]] = []
    for criterion in recommendation.criteria:
        is_calibration = criterion is Criterion.calibration
        columns.append((calibration if is_calibration else criterion, criterion, False))
        if is_calibration:
            columns.append((f"recalibrated {calibration}", criterion, True))
    kind = "removed" if first.label is None else "candidate"
    for name in (kind, *(term.name for term in terms), *(name for name, _, _ in columns)):
        table.add_column(name, justify="right")
    rows = [
        (before.label or str(level.level), level, recalibrated)
        for before, after in pairs
        for level, recalibrated in zip(before.levels, after.levels, strict=True)
    ]
    for name, level, recalibrated in rows:
        table.add_row(
            name,
            *(reasons.cost_text(level, term) for term in terms),
            *(
                _loss_bound(
                    recalibrated if is_recalibrated else level, criterion, recommendation.tasks
                )
                for _, criterion, is_recalibrated in columns
            ),
        )
    return table


def _loss_bound(level: Level, criterion: str, tasks: Sequence[str]) -> str:
    """The largest loss of a criterion, with its mark and the number of tasks that have it.

    A criterion that is met on some tasks only, and not measured on the others, has no mark.
    """
    checks = [check for check in level.checks if check.criterion == criterion]
    measured = [check for check in checks if check.is_measured]
    if not measured:
        return MISSING
    worst = worst_check(measured)
    text = "unknown" if worst.loss_bound is None else number(worst.loss_bound, 3)
    if not worst.is_met:
        return f"{text} {NOT_MET_MARK}"
    if len(measured) < len(tasks):
        return f"{text} ({len(measured)} of {len(tasks)} tasks)"
    return f"{text} {MET_MARK}"


def worst_check(checks: Sequence[Check]) -> Check:
    """The check that is farthest from passing; an unknown loss comes first."""

    def excess(check: Check) -> float:
        return math.inf if check.loss_bound is None else check.loss_bound - check.margin

    return max(checks, key=excess)
