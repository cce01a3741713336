"""Sentences about a plan: the rows, their cost, the assumptions, and the command."""

import math
from typing import Self

from pydantic import Field

from prunelake.command_line import rounded_up
from prunelake.planning.needs import VerdictPlan
from prunelake.planning.request import PlanRequest
from prunelake.planning.verdict_plan import plan_verdicts

from ..queries.snapshots.snapshot import Snapshot
from .wording import at_levels, isolated, model_name, percent


class PlanFindings(VerdictPlan):
    """A plan with its sentences."""

    sentences: list[str] = Field(description="The rows, the cost, the assumptions, the command.")

    @classmethod
    def of(cls, plan: VerdictPlan) -> Self:
        """The plan with its sentences."""
        fields = {name: getattr(plan, name) for name in VerdictPlan.model_fields}
        return cls(**fields, sentences=plan_sentences(plan))


def load_plan(snapshot: Snapshot, request: PlanRequest) -> PlanFindings:
    """The plan for a request, with its sentences.

    Raises:
        InvalidRequest, NotFound, NothingToShow: as `planning.verdict_plan.plan_verdicts`.
    """
    with snapshot.cursor() as connection:
        return PlanFindings.of(plan_verdicts(connection, request))


def plan_sentences(plan: VerdictPlan) -> list[str]:
    """The sentences of a plan: the rows, their cost, the assumptions, and the command."""
    subject = f"{isolated(model_name(plan.model))} on {isolated(plan.task)}"
    if not plan.needs:
        return [
            f"The lake has no pruned level of {subject}, so the plan "
            "has only the flips of its candidates; give levels to plan a sweep."
        ]
    if all(need.is_decided for need in plan.needs):
        return [f"The lake decides every criterion of {subject}."]
    text = (
        f"With a chance of {percent(plan.power)} for each verdict, {rounded_up(plan.rows):,} rows "
        "decide accuracy and calibration"
    )
    if plan.explained_rows:
        levels = sorted({need.level for need in plan.needs})
        where = at_levels(plan.explained_levels, levels)
        text += f", and {rounded_up(plan.explained_rows):,} explained rows decide faithfulness "
        text += f"at {where}"
    where = f"on {plan.device}" if plan.device else "at an assumed speed"
    return [
        f"{text}, for any true change.",
        f"The missing rows take about {rounded_up(plan.forward_tokens):,} forward tokens, "
        f"{_duration(plan.minutes)} {where}.",
        *plan.assumptions,
        *_shortage(plan),
        f"This sweep computes {'all rows' if _shortage(plan) else 'them'}: {plan.command}",
    ]


def _shortage(plan: VerdictPlan) -> list[str]:
    """A sentence about a task with too few rows."""
    needed = {need.n_needed: need.margin for need in plan.needs if not need.is_decided}
    most = max(needed, default=0)
    if plan.split_rows is None or most <= plan.split_rows:
        return []
    margin = needed[most] * math.sqrt(most / plan.split_rows)
    return [
        f"The task has {plan.split_rows:,} rows, fewer than are needed. With all rows, a margin "
        f"of about {math.ceil(100 * margin) / 100:g} can be decided everywhere."
    ]


def _duration(minutes: float) -> str:
    if minutes < 1:
        return "less than a minute"
    if minutes < 120:
        return f"{minutes:.0f} minutes"
    return f"{minutes / 60:.1f} hours"
