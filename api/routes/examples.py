"""Single examples: what the unpruned and the pruned model answer, and by which tokens."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from prunelake.errors import NotFound
from prunelake.lake.bound_query import Connection

from ..findings.selection import Selection, checked_selection, find_run
from ..http.problems import ERROR_RESPONSES
from ..queries import examples as example_queries
from ..queries import run_metrics
from .data import SnapshotDependency, reject_repeated_parameters

router = APIRouter(
    responses=ERROR_RESPONSES, tags=["examples"], dependencies=[Depends(reject_repeated_parameters)]
)

RunId = Annotated[
    str, Path(description="A run; GET /models lists them.", examples=["c53497babcb1c053"])
]


class LevelParameter(BaseModel):
    """Which level is set beside the unpruned model."""

    model_config = ConfigDict(extra="forbid")

    level: int | None = Field(
        default=None,
        description="What to set beside the unpruned model; the deepest stable one by default.",
        examples=[4],
    )


class ExampleListParameters(LevelParameter):
    """How many examples are listed."""

    limit: int = Field(default=20, ge=1, le=1000, description="How many.", examples=[5])


class ExampleParameters(LevelParameter):
    """By which method an example is explained."""

    method: str | None = Field(
        default=None,
        description="Of the attributions; the run's headline method by default.",
        examples=["kernel_shap"],
    )


class ExampleLine(BaseModel):
    """One example in a list; options are counted from 0."""

    example_id: str = Field(examples=["test:17"])
    prompt: str
    gold: int
    unpruned_prediction: int
    prediction: int
    unpruned_confidence: float | None
    confidence: float | None
    flip_kind: str | None = Field(
        description="harmful, beneficial or neutral; null where both predict the same."
    )
    is_explained: bool


class ExampleList(BaseModel):
    """The examples of a run that show most at a level."""

    run_id: str
    level: int
    examples: list[ExampleLine]


class Side(BaseModel):
    """What one level answers."""

    level: int
    prediction: int | None
    is_correct: bool | None
    confidence: float | None = Field(description="Probability of the predicted option, 0 to 1.")
    probabilities: list[float | None] | None = Field(description="Of every option.")


class Token(BaseModel):
    """One token of the prompt, and what it adds to each level's own prediction."""

    token: str
    unpruned: float | None = Field(description="Nats, seeds averaged; null if not explained.")
    pruned: float | None


class Example(BaseModel):
    """One example, unpruned and pruned side by side."""

    run_id: str
    example_id: str
    task: str
    level: int
    prompt: str
    options: list[str]
    gold: int
    method: str | None = Field(description="Of the attributions; null if there are none.")
    methods: list[str] = Field(description="What else explains it.")
    unpruned: Side | None
    pruned: Side | None
    tokens: list[Token]


@router.get("/examples/{run_id}", summary="The examples of a run that show most")
def examples(
    run_id: RunId,
    snapshot: SnapshotDependency,
    asked: Annotated[ExampleListParameters, Query()],
) -> ExampleList:
    """Examples at a level: explained ones first, then flips, then those whose confidence moved."""
    with snapshot.cursor() as connection:
        subject = _subject(connection, run_id, asked.level)
        rows = example_queries.notable_examples(run_id, subject.level, asked.limit).rows(connection)
    lines = [ExampleLine(**row) for row in rows.fill_nan(None).to_dicts()]
    return ExampleList(run_id=run_id, level=subject.level, examples=lines)


@router.get("/examples/{run_id}/{example_id:path}", summary="One example, side by side")
def example(
    run_id: RunId,
    example_id: Annotated[
        str, Path(description="GET /examples/{run_id} lists them.", examples=["test:17"])
    ],
    snapshot: SnapshotDependency,
    asked: Annotated[ExampleParameters, Query()],
) -> Example:
    """Prediction, confidence and attributions of the unpruned model and of a level."""
    with snapshot.cursor() as connection:
        subject = _subject(connection, run_id, asked.level)
        found = example_queries.example(run_id, example_id).rows(connection).to_dicts()
        if not found:
            raise NotFound(f"run {run_id} has no example {example_id!r}; GET /examples/{run_id}")
        methods = found[0]["methods"]
        if asked.method is not None and asked.method not in methods:
            raise NotFound(f"example {example_id!r} is not explained by {asked.method!r}", methods)
        headline = found[0]["headline"]
        method = asked.method or (headline if headline in methods else next(iter(methods), None))
        sides = example_queries.predictions(run_id, example_id, subject.level).rows(connection)
        tokens: list[dict[str, Any]] = []
        if method is not None:
            scored = example_queries.token_scores(run_id, example_id, subject.level, method)
            tokens = scored.rows(connection).fill_nan(None).to_dicts()
    by_level = {row["level"]: Side(**row) for row in sides.fill_nan(None).to_dicts()}
    return Example(
        run_id=run_id,
        example_id=example_id,
        task=subject.run["task"],
        level=subject.level,
        prompt=found[0]["prompt"],
        options=found[0]["options"],
        gold=found[0]["gold"],
        method=method,
        methods=methods,
        unpruned=by_level.get(0),
        pruned=by_level.get(subject.level),
        tokens=[Token(**token) for token in tokens],
    )


def _subject(connection: Connection, run_id: str, level: int | None) -> Selection:
    run = find_run(connection, run_id)
    return checked_selection(
        run, run_metrics.headline_metrics([run_id]).rows(connection), level, None
    )
