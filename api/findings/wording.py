"""Names, numbers and lists for sentences."""

import re
from collections.abc import Sequence

from prunelake.comparison_spec import COMPARISON_STRATEGY
from prunelake.schema.metrics import METRIC_DEFINITIONS
from prunelake.schema.number_texts import MINUS as MINUS
from prunelake.schema.number_texts import MISSING as MISSING
from prunelake.schema.number_texts import number as number
from prunelake.schema.number_texts import signed as signed
from prunelake.spec import UNIT_NAMES

RTL = re.compile(
    "[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff]"
)
"""The letters of right-to-left scripts."""


def label(metric: str) -> str:
    """The name of a metric in a sentence."""
    definition = METRIC_DEFINITIONS.get(metric)
    return metric.replace("_", " ") if definition is None else definition.label


def model_name(model: str) -> str:
    """The last part of a model reference."""
    return model.rstrip("/").rpartition("/")[2].rpartition(":")[2] or model


def isolated(name: str) -> str:
    """A name that keeps the words around it in order, also in a right-to-left script."""
    return (
        f"\N{FIRST STRONG ISOLATE}{name}\N{POP DIRECTIONAL ISOLATE}" if RTL.search(name) else name
    )


def order_name(strategy: str) -> str:
    """The name of a removal order in a sentence; imported runs may lack it.

    The levels of a comparison are not removed in an order.
    """
    if strategy == COMPARISON_STRATEGY:
        return "comparison"
    return f"{strategy} order" if strategy else "order not known"


def removed_modules(strategy: str) -> str:
    """The modules that a strategy removes, by its label, such as attention layers or MLPs."""
    unit = strategy.partition(":")[0]
    names = {str(name): text for name, text in UNIT_NAMES.items()}
    return names.get(unit, UNIT_NAMES["attention"])


def counted_parts(strategy: str) -> str:
    """The parts that a level counts, by the label of a strategy: layers, or experts."""
    return UNIT_NAMES["expert"] if strategy.startswith("expert:") else "layers"


def interval(low: float | None, high: float | None, decimals: int = 2) -> str:
    """Both ends of an interval; empty where it is unknown."""
    if low is None or high is None:
        return ""
    return f"{number(low, decimals)} to {number(high, decimals)}"


def percent(share: float | None, decimals: int = 0) -> str:
    """A share in percent, with a no-break space before the sign; a dash without a value."""
    if share is None:
        return MISSING
    text = number(100 * share, decimals)
    if share > 0 and not text.strip("0."):
        text = f"under {number(10**-decimals, decimals)}"
    return f"{text}\N{NO-BREAK SPACE}%"


def count(number_of: int | None) -> str:
    """A count with a comma at each thousand; a dash without a value."""
    return MISSING if number_of is None else f"{number_of:,}"


def listed(parts: Sequence[str]) -> str:
    """An enumeration: a, b and c."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def ranges(chosen: Sequence[int], among: Sequence[int] | None = None) -> str:
    """Ascending numbers, where three or more neighbours become a range: 0 to 3, 6, 8.

    Neighbours follow each other in `among`, by default in the whole numbers.
    """
    position = {number: i for i, number in enumerate(among)} if among else {n: n for n in chosen}
    runs: list[list[int]] = []
    for member in chosen:
        if runs and position[member] == position[runs[-1][-1]] + 1:
            runs[-1].append(member)
        else:
            runs.append([member])
    parts = [[f"{run[0]} to {run[-1]}"] if len(run) > 2 else [str(n) for n in run] for run in runs]
    return ", ".join(part for run_parts in parts for part in run_parts)


def at_levels(chosen: Sequence[int], among: Sequence[int]) -> str:
    """Ascending levels of a run that has the levels `among`: level 4; levels 1 to 3 and 6."""
    parts = ranges(chosen, among).split(", ")
    return f"level{'s' * (len(chosen) > 1)} {listed(parts)}"


def from_to(before: float | None, after: float | None) -> str:
    """Two values, with a third decimal where two decimals would be equal."""
    decimals = 2 if number(before) != number(after) else 3
    return f"{number(before, decimals)} to {number(after, decimals)}"
