"""A recommendation with its sentences."""

from typing import Self

from pydantic import Field

from prunelake.recommend.recommendation import Recommendation, recommend
from prunelake.recommend.request import RecommendationRequest

from ...queries.snapshots.snapshot import Snapshot
from .answer import answer_sentences
from .caveats import caveats
from .changes import what_would_change


class Advice(Recommendation):
    """A recommendation with its sentences."""

    sentences: list[str] = Field(description="The answers before and after recalibration.")
    changes: list[str] = Field(description="What would change each answer.")
    caveats: list[str] = Field(description="The limits of the answers.")

    @classmethod
    def of(cls, recommendation: Recommendation) -> Self:
        """The recommendation with its sentences."""
        return cls(
            **{name: getattr(recommendation, name) for name in Recommendation.model_fields},
            sentences=answer_sentences(recommendation),
            changes=what_would_change(recommendation),
            caveats=caveats(recommendation),
        )


def load_advice(snapshot: Snapshot, request: RecommendationRequest) -> Advice:
    """The recommendation for a request, with its sentences.

    Raises:
        NotFound, NothingToShow: as `prunelake.recommend.recommendation.recommend`.
    """
    with snapshot.cursor() as connection:
        return Advice.of(recommend(connection, request))
