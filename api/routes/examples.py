"""GET /examples: the answers of the unpruned and the pruned model, and the tokens behind them."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from prunelake.schema.analysis_tables import FOREIGN_TOKENS_NOTE

from ..findings.selection import SelectionRequest, load_selection
from ..http.problems import ERROR_RESPONSES
from ..queries.examples import load_example, load_notable_examples
from .parameters import SnapshotDependency, reject_repeated_parameters

router = APIRouter(
    responses=ERROR_RESPONSES, tags=["examples"], dependencies=[Depends(reject_repeated_parameters)]
)

RunId = Annotated[
    str, Path(description="A run; GET /models lists them.", examples=["b163322a09186ad1"])
]


class LevelParameter(BaseModel):
    """The level to compare with level 0: the unpruned model, or the baseline of a comparison."""

    model_config = ConfigDict(extra="forbid")

    level: int | None = Field(
        default=None,
        description="The level to compare with level 0; by default the deepest level with stable "
        "accuracy, or the candidate with the most hidden degradations.",
        examples=[4],
    )


class ExampleListParameters(LevelParameter):
    """The level, and the number of examples to list."""

    limit: int = Field(
        default=20, ge=1, le=1000, description="The number of examples.", examples=[5]
    )


class ExampleParameters(LevelParameter):
    """The level, and the method whose explanation is returned."""

    method: str | None = Field(
        default=None,
        description="The attribution method; the run's headline method by default.",
        examples=["kernel_shap"],
    )


class ExampleLine(BaseModel):
    """One example in a list; options are counted from 0."""

    example_id: str = Field(examples=["test:17"])
    prompt: str | None = Field(description="null if an import lacks it.")
    gold: int | None = Field(description="null if an import has only the correctness.")
    unpruned_prediction: int
    prediction: int
    unpruned_confidence: float | None
    confidence: float | None
    flip_kind: str | None = Field(
        description="harmful, beneficial or neutral; null if both predict the same option."
    )
    is_explained: bool


class ExampleList(BaseModel):
    """The examples of a run that differ most at a level from level 0."""

    run_id: str
    level: int
    examples: list[ExampleLine]


class Side(BaseModel):
    """The answer at one level."""

    level: int
    label: str = Field(description="The number of removed layers, or the name of a candidate.")
    prediction: int | None
    is_correct: bool | None
    confidence: float | None = Field(description="Probability of the predicted option, 0 to 1.")
    probabilities: list[float | None] | None = Field(description="The probability of every option.")


class Token(BaseModel):
    """One token of the prompt, with its score at each level for that level's own prediction."""

    token: str
    unpruned: float | None = Field(description="Nats, seeds averaged; null if not explained.")
    pruned: float | None


class Example(BaseModel):
    """One example at level 0 (`unpruned`) and at a level (`pruned`) side by side."""

    run_id: str
    example_id: str
    task: str
    level: int
    prompt: str | None
    options: list[str]
    gold: int | None
    method: str | None = Field(description="The attribution method; null if none explains it.")
    methods: list[str] = Field(description="All methods that explain it.")
    unpruned: Side | None
    pruned: Side | None
    tokens: list[Token]
    tokens_note: str | None = Field(
        description="Why `pruned` has no scores: a candidate with another tokenizer has other "
        "tokens than the baseline. null otherwise."
    )


@router.get(
    "/examples/{run_id}",
    operation_id="list_examples",
    summary="The examples of a run that change most",
)
def examples(
    run_id: RunId,
    snapshot: SnapshotDependency,
    asked: Annotated[ExampleListParameters, Query()],
) -> ExampleList:
    """Examples at a level: first explained examples, then flips, then changes of confidence."""
    level = load_selection(snapshot, SelectionRequest(run_id=run_id, level=asked.level)).level
    rows = load_notable_examples(snapshot, run_id, level, asked.limit)
    lines = [ExampleLine(**row) for row in rows]
    return ExampleList(run_id=run_id, level=level, examples=lines)


@router.get(
    "/examples/{run_id}/{example_id:path}",
    operation_id="get_example",
    summary="One example, side by side",
)
def example(
    run_id: RunId,
    example_id: Annotated[
        str, Path(description="GET /examples/{run_id} lists them.", examples=["test:17"])
    ],
    snapshot: SnapshotDependency,
    asked: Annotated[ExampleParameters, Query()],
) -> Example:
    """Prediction, confidence and attributions at level 0 and at a level."""
    selection = load_selection(snapshot, SelectionRequest(run_id=run_id, level=asked.level))
    evidence = load_example(snapshot, run_id, example_id, selection.level, asked.method)
    sides = {level: Side(**row) for level, row in evidence.predictions.items()}
    return Example(
        run_id=run_id,
        example_id=example_id,
        task=selection.run["task"],
        level=selection.level,
        prompt=evidence.example["prompt"],
        options=evidence.example["options"],
        gold=evidence.example["gold"],
        method=evidence.method,
        methods=evidence.example["methods"],
        unpruned=sides.get(0),
        pruned=sides.get(selection.level),
        tokens=[Token(**token) for token in evidence.tokens],
        tokens_note=None if evidence.example["shares_tokens"] else FOREIGN_TOKENS_NOTE,
    )
