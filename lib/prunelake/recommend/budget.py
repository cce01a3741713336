"""Cost budgets: limits on the costs of a pruned model, as in `speedup>=1.2, kv_share<=0.8`."""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import product

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
"""The column of the view `efficiency` for each cost that `prunelake profile` measures. Each cost is
a ratio to the unpruned model."""

COUNTED_COSTS = ("removed_layers", "removed_share")
"""Costs without a measurement: the number and the share of layers that lose their unit."""

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
"""Budgets without spaces, for the schema of the API."""


@dataclass(frozen=True)
class BudgetTerm:
    """One comparison of a cost with a bound."""

    name: str
    comparison: str
    bound: float

    @property
    def column(self) -> str:
        """The compared value: a column of `efficiency`, or a name of COUNTED_COSTS."""
        return COST_COLUMNS.get(self.name, self.name)

    @property
    def more_is_better(self) -> bool:
        """Whether a larger value saves more: true for speeds, false for remaining shares."""
        return not self.name.endswith("_share") or self.name == "removed_share"

    def is_met(self, value: float | None) -> bool:
        """Whether a value meets the bound; an unknown value does not."""
        return value is not None and COMPARISONS[self.comparison](value, self.bound)

    def excludes(self, upper: "BudgetTerm") -> bool:
        """Whether this lower bound leaves no value below an upper bound of the same cost."""
        if not (self.comparison.startswith(">") and upper.comparison.startswith("<")):
            return False
        is_open = "=" not in self.comparison or "=" not in upper.comparison
        return self.bound > upper.bound or (is_open and self.bound == upper.bound)

    def distance(self, value: float) -> float:
        """The distance of a value from the bound, as a share of the bound."""
        return abs(value - self.bound) / (abs(self.bound) or 1)

    def __str__(self) -> str:
        bound = f"{self.bound:.9f}".rstrip("0").removesuffix(".")
        return f"{self.name}{self.comparison}{bound}"


@dataclass(frozen=True)
class CostBudget:
    """Terms that must all be met. A budget without terms is always met."""

    terms: tuple[BudgetTerm, ...] = ()

    def is_met(self, costs: Mapping[str, float | None]) -> bool:
        """Whether the costs of a level meet every term; `costs` are by column of `efficiency`."""
        return all(term.is_met(costs.get(term.column)) for term in self.terms)

    def is_exceeded(self, costs: Mapping[str, float | None]) -> bool:
        """Whether a known cost breaks a term; an unknown cost breaks none."""
        known = ((term, costs.get(term.column)) for term in self.terms)
        return any(cost is not None and not term.is_met(cost) for term, cost in known)

    def contradiction(self) -> tuple[BudgetTerm, BudgetTerm] | None:
        """Two terms that no value meets together, if there are any: the lower bound first."""
        pairs = product(self.terms, self.terms)
        return next(
            ((low, up) for low, up in pairs if low.column == up.column and low.excludes(up)), None
        )

    def unknown_costs(self, costs: Mapping[str, float | None]) -> list[str]:
        """The costs in the budget that are unknown at a level."""
        terms = (term for term in self.terms if costs.get(term.column) is None)
        return [*dict.fromkeys(term.name for term in terms)]

    def __str__(self) -> str:
        return ", ".join(map(str, self.terms))


def parse_budget(text: str | None) -> CostBudget:
    """Parse a budget: terms separated by commas or `and`; None gives a budget without terms.

        parse_budget("speedup>=1.2 and kv_share<=0.8")

    Raises:
        InvalidRequest: a term has another form or names an unknown cost, or no value meets two of
            the terms.
    """
    if text is None:
        return CostBudget()
    terms = tuple(_parse_term(part.strip()) for part in re.split(r",|\band\b", text))
    budget = CostBudget(terms)
    if found := budget.contradiction():
        raise InvalidRequest(
            f"budget terms '{found[0]}' and '{found[1]}' contradict each other: no level can meet "
            "both; leave one out"
        )
    return budget


def _parse_term(text: str) -> BudgetTerm:
    match = TERM_PATTERN.fullmatch(text)
    if match is None:
        raise InvalidRequest(
            f"budget term {text!r} is not a name, one of {' '.join(COMPARISONS)} and a number, "
            f"as in {BUDGET_EXAMPLE!r}"
        )
    name = match["name"]
    if name not in COST_NAMES:
        near = get_close_matches(name, COST_NAMES, 1)
        suggestion = f", perhaps {near[0]!r}" if near else ""
        raise InvalidRequest(
            f"budget term {text!r}: no cost {name!r}{suggestion}; "
            f"the costs are {', '.join(COST_NAMES)}, as in {BUDGET_EXAMPLE!r}",
            COST_NAMES,
        )
    return BudgetTerm(name, match["comparison"], float(match["bound"]))
