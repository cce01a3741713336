"""The rule that orders layers or experts for removal, and the calibration text that it may read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from prunelake.frozen_value import FrozenValue, Seed

DEFAULT_SEARCH_ROWS = 20
"""With 20 rows, a search up to half of the layers costs at most 8 times a sweep of 100 rows."""

Unit = Literal["attention", "mlp", "block", "linear_attention", "state_space", "expert"]
"""The unit that a sweep removes from a layer: its softmax attention, its MLP (with experts, too),
its whole block, its linear attention, its state space, or some of its experts."""

UNIT_NAMES: dict[Unit, str] = {
    "attention": "attention layers",
    "mlp": "MLPs",
    "block": "blocks",
    "linear_attention": "linear-attention layers",
    "state_space": "state-space layers",
    "expert": "experts of each block",
}
"""The units as words in a sentence: "without attention layers 0, 3", "of 30 blocks"."""

StrategyName = Literal[
    "cosine", "iterative", "loss", "divergence", "balanced", "last", "random", "use"
]


@dataclass(frozen=True)
class StrategyDefinition:
    """How a strategy finds its order.

    - `reads`: the data that determine the order besides the model: calibration `text`, or `rows` of
      the task that the sweep does not report.
    - `is_greedy`: importance is measured again after each removal, up to the deepest level of a
      sweep. Behind this level, the order has no meaning.
    - `orders_layers`, `orders_experts`: the units that it orders.
    """

    reads: Literal["text", "rows"] | None = None
    is_greedy: bool = False
    orders_layers: bool = True
    orders_experts: bool = False


STRATEGIES: Mapping[StrategyName, StrategyDefinition] = {
    "cosine": StrategyDefinition(reads="text"),
    "iterative": StrategyDefinition(reads="text", is_greedy=True, orders_experts=True),
    "loss": StrategyDefinition(reads="text", is_greedy=True),
    "divergence": StrategyDefinition(reads="rows", is_greedy=True),
    "balanced": StrategyDefinition(reads="rows", is_greedy=True),
    "last": StrategyDefinition(orders_experts=True),
    "random": StrategyDefinition(orders_experts=True),
    "use": StrategyDefinition(reads="text", orders_layers=False, orders_experts=True),
}
"""Every strategy; `strategies.removal_order` computes the orders."""


def strategies_that(matches: Callable[[StrategyDefinition], bool]) -> tuple[str, ...]:
    """The names of the strategies whose definition matches, in the order of `STRATEGIES`."""
    return tuple(name for name, definition in STRATEGIES.items() if matches(definition))


class Strategy(FrozenValue):
    """The rule that orders layers for removal; `removal_order.removal_order` explains each name.

    `seed` is used by random orders, and is 0 for all others. A strategy that reads rows is measured
    on `search_rows` examples, which the sweep never reports. `unit` is the part that is removed
    from a layer. A label such as `random:3` or `mlp:cosine` is accepted in place of the fields.
    `STRATEGIES` says which strategies order experts.
    """

    name: StrategyName = "cosine"
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
        return STRATEGIES[self.name].reads == "text"

    @property
    def reads_rows(self) -> bool:
        """Whether examples of the task determine the order."""
        return STRATEGIES[self.name].reads == "rows"

    @property
    def is_greedy(self) -> bool:
        """Whether the order is measured again after each removal."""
        return STRATEGIES[self.name].is_greedy

    @model_validator(mode="before")
    @classmethod
    def _from_label(cls, value: Any) -> Any:
        """Parse a label: [UNIT:]NAME or [UNIT:]random:SEED."""
        if not isinstance(value, str):
            return value
        unit, colon, rest = value.partition(":")
        unit_field = {"unit": unit} if colon and unit in UNIT_NAMES else {}
        name, colon, seed = (rest if unit_field else value).partition(":")
        return unit_field | {"name": name} | ({"seed": seed} if colon else {})

    @field_validator("seed")
    @classmethod
    def _drop_unused_seed(cls, seed: int, info: ValidationInfo) -> int:
        # Other orders ignore the seed: two seeds would give the same run two ids.
        return seed if info.data.get("name") == "random" else 0

    @model_validator(mode="after")
    def _check_search_rows(self) -> Self:
        if self.search_rows != DEFAULT_SEARCH_ROWS and not self.reads_rows:
            searching = " and ".join(strategies_that(lambda known: known.reads == "rows"))
            raise ValueError(f"search_rows is for {searching}, not for {self.name}")
        return self

    @model_validator(mode="after")
    def _check_unit(self) -> Self:
        known = STRATEGIES[self.name]
        if self.unit == "expert" and not known.orders_experts:
            names = strategies_that(lambda other: other.orders_experts)
            raise ValueError(
                f"strategy {self.name} does not order experts; take one of "
                + ", ".join(f"expert:{name}" for name in names)
            )
        if self.unit != "expert" and not known.orders_layers:
            raise ValueError(
                f"strategy {self.name} orders experts, not {UNIT_NAMES[self.unit]}; take "
                f"expert:{self.name}"
            )
        return self


class Calibration(FrozenValue):
    """The calibration text on which layer importance is measured.

    It consists of `windows` windows of `window_tokens` tokens. `source` is `bundled` (prose in this
    package), `c4` (the text of the paper), or the path of a `.txt` file or of a `.jsonl` file with
    a column `text`. The strategy `loss` reads its text many times, so it uses only the first fifth
    of each window.
    """

    source: str = "bundled"
    windows: Annotated[int, Field(ge=1)] = 8
    window_tokens: Annotated[int, Field(ge=2)] = 512
