"""What a pruned model may cost: `speedup>=1.2, kv_share<=0.8`."""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from prunelake.errors import InvalidRequest

COST_COLUMNS = {
    "speedup": "decode_speedup",
    "decode_speedup": "decode_speedup",
    "prefill_speedup": "prefill_speedup",
    "weight_share": "weight_share",
    "kv_share": "kv_share",
    "parameter_share": "parameter_share",
    "memory_share": "memory_share",
}
"""Costs that `prunelake profile` measures, and their column in the view `efficiency`: each is a
ratio to the unpruned model."""

COUNTED_COSTS = ("removed_layers", "removed_share")
"""Costs that need no measurement: how many layers lose their unit, and their share of all."""

COST_NAMES = (*COST_COLUMNS, *COUNTED_COSTS)

BUDGET_EXAMPLE = "speedup>=1.2, kv_share<=0.8"

COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}

NUMBER_PATTERN = r"[0-9]{1,9}(?:\.[0-9]{1,9})?"

TERM_PATTERN = re.compile(
    rf"(?P<name>\w+)\s*(?P<comparison>>=|<=|>|<)\s*(?P<bound>{NUMBER_PATTERN})"
)

_CANONICAL_TERM = rf"(?:{'|'.join(COST_NAMES)})(?:>=|<=|>|<){NUMBER_PATTERN}"
BUDGET_PATTERN = rf"^{_CANONICAL_TERM}(?:,{_CANONICAL_TERM})*$"
"""Budgets as a program writes them, for a schema."""


@dataclass(frozen=True)
class BudgetTerm:
    """One comparison of a cost with a bound."""

    name: str
    comparison: str
    bound: float

    @property
    def column(self) -> str:
        """What is compared: a column of `efficiency`, or one of COUNTED."""
        return COST_COLUMNS.get(self.name, self.name)

    @property
    def more_is_better(self) -> bool:
        """Whether a greater value saves more, as of speeds, unlike shares of what is left."""
        return not self.name.endswith("_share") or self.name == "removed_share"

    def is_met(self, value: float | None) -> bool:
        """Whether a value is within the bound; one that is not known is not."""
        return value is not None and COMPARISONS[self.comparison](value, self.bound)

    def distance(self, value: float) -> float:
        """How far a value lies off the bound, as a share of the bound."""
        return abs(value - self.bound) / (abs(self.bound) or 1)

    def __str__(self) -> str:
        bound = f"{self.bound:.9f}".rstrip("0").removesuffix(".")
        return f"{self.name}{self.comparison}{bound}"


@dataclass(frozen=True)
class CostBudget:
    """Terms that must all be met; none of them is no budget."""

    terms: tuple[BudgetTerm, ...] = ()

    def is_met(self, costs: Mapping[str, float | None]) -> bool:
        """Whether the costs of a level, by column, meet every term."""
        return all(term.is_met(costs.get(term.column)) for term in self.terms)

    def __str__(self) -> str:
        return ", ".join(map(str, self.terms))


def parse_budget(text: str | None) -> CostBudget:
    """The budget that a text describes: terms joined by commas or `and`.

    Raises:
        InvalidRequest: a term that is none, or names no known cost.
    """
    if text is None:
        return CostBudget()
    return CostBudget(tuple(_parse_term(part.strip()) for part in re.split(r",|\band\b", text)))


def _parse_term(text: str) -> BudgetTerm:
    found = TERM_PATTERN.fullmatch(text)
    if found is None:
        raise InvalidRequest(
            f"budget term {text!r}: not a name, one of {' '.join(COMPARISONS)} and a number, "
            f"as in {BUDGET_EXAMPLE!r}"
        )
    name = found["name"]
    if name not in COST_NAMES:
        near = get_close_matches(name, COST_NAMES, 1)
        raise InvalidRequest(
            f"budget term {text!r}: no cost {name!r}{f', perhaps {near[0]!r}' if near else ''}; "
            f"there are {', '.join(COST_NAMES)}, as in {BUDGET_EXAMPLE!r}",
            COST_NAMES,
        )
    return BudgetTerm(name, found["comparison"], float(found["bound"]))
