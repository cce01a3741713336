"""Recommendations of the model `tiny` in a lake of a test."""

from pathlib import Path
from typing import Any

from prunelake.lake.sql import views
from prunelake.recommend.budget import parse_budget
from prunelake.recommend.recommendation import Answer, Recommendation, recommend
from prunelake.recommend.request import RecommendationRequest


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
