"""Lakes with runs to recommend from, and recommendations from a lake of a test."""

from pathlib import Path
from typing import Any

from prunelake.lake.sql import views
from prunelake.recommend.budget import parse_budget
from prunelake.recommend.recommendation import Answer, Recommendation, recommend
from prunelake.recommend.request import RecommendationRequest
from tests.support.runs.criteria_runs import Loss, compared_run

BAD: Loss = (0.05, 0.01)
UNSURE: Loss = (0.01, 0.02)
UNEXPLAINED: dict[str, Loss] = {"comprehensiveness": None, "sufficiency": None}


def two_orders(folder: Path) -> Path:
    """A lake with two orders of the model `small`, one of them with deeper levels."""
    levels = {1: {}, 2: {}, 3: {"ece": UNSURE, "sufficiency": BAD}}
    compared_run(folder, "a", levels, model="hub:org/small")
    compared_run(folder, "b", {1: {"accuracy": BAD}}, model="hub:org/small", strategy="mlp:last")
    return folder


def recommendation(lake: Path, budget: str | None = None, **question: Any) -> Recommendation:
    fields: dict[str, Any] = {"model": "tiny", "budget": parse_budget(budget)} | question
    with views.connect(lake) as connection:
        return recommend(connection, RecommendationRequest(**fields))


def plain_answer(lake: Path, budget: str | None = None, **question: Any) -> Answer:
    return recommendation(lake, budget, **question).as_it_is


def no_level_reason(lake: Path, budget: str | None = None, **question: Any) -> str | None:
    (candidate,) = plain_answer(lake, budget, **question).candidates
    assert candidate.level is None
    return candidate.reason
