"""What a run's numbers say, in words; every statement is about point estimates."""

import math
from dataclasses import dataclass

import polars as pl

MARGIN = 0.02
"""A fall of accuracy by at most this much counts as holding."""

MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"

LABELS = {
    "accuracy": "accuracy",
    "accuracy_norm": "accuracy per byte",
    "ece": "ECE",
    "brier": "Brier score",
    "nll": "NLL",
    "mean_confidence": "mean confidence",
    "auroc": "AUROC of confidence",
    "comprehensiveness": "comprehensiveness",
    "sufficiency": "sufficiency",
    "comprehensiveness_advantage": "comprehensiveness over random",
    "sufficiency_advantage": "sufficiency over random",
    "overlap_5": "overlap of top 5 tokens",
    "overlap_10": "overlap of top 10 tokens",
    "overlap_20": "overlap of top 20 tokens",
    "attribution_spearman": "attribution rank correlation",
    "flip_rate": "flip rate",
    "harmful_flip_rate": "harmful flip rate",
    "beneficial_flip_rate": "beneficial flip rate",
    "kl_from_unpruned": "KL from unpruned",
}


@dataclass(frozen=True)
class Guessing:
    """The accuracy of two guessers that see no prompt.

    `uniform` draws one of the options, `majority` always names the most frequent gold option.
    """

    uniform: float
    majority: float


def label(metric: str) -> str:
    """How a metric reads in a sentence."""
    return LABELS.get(metric, metric.replace("_", " "))


def order(strategy: str) -> str:
    """How the removal order of a run reads; imported runs may not say theirs."""
    return f"{strategy} order" if strategy else "order not known"


def number(value: float | None, decimals: int = 2) -> str:
    """A value with a real minus sign; an absent one is a dash."""
    return DASH if value is None else _with_minus(f"{value:.{decimals}f}")


def signed(value: float | None, decimals: int = 2) -> str:
    """A difference with its sign; what rounds to zero has none."""
    if value is None or round(value, decimals) == 0:
        return number(value, decimals)
    return _with_minus(f"{value:+.{decimals}f}")


def value_at(levels: pl.DataFrame, metric: str, level: int) -> float | None:
    """The value of a metric at a level, or None where there is none."""
    found = levels.filter(metric=metric, level=level)["value"]
    value: float | None = found[0] if len(found) else None
    return value


def count(levels: pl.DataFrame, metric: str) -> int:
    """How many examples the unpruned value of a metric rests on."""
    found = levels.filter(metric=metric, level=0)["n"]
    return found[0] if len(found) else 0


def standard_error(accuracy: float, n: int) -> float:
    """Of a proportion: sqrt(p (1 - p) / n)."""
    return math.sqrt(accuracy * (1 - accuracy) / n)


def held_level(levels: pl.DataFrame) -> int | None:
    """The deepest level up to which accuracy is nowhere more than MARGIN below the unpruned one.

    None where no unpruned accuracy is known.
    """
    accuracy = levels.filter(metric="accuracy").sort("level").select("level", "value").rows()
    unpruned = value_at(levels, "accuracy", 0)
    if unpruned is None:
        return None
    held = 0
    for level, value in accuracy:
        # Accuracies are fractions: a fall by exactly the margin must not fail by rounding.
        if value is None or unpruned - value > MARGIN + 1e-9:
            break
        held = level
    return held


def shown_level(levels: pl.DataFrame) -> int | None:
    """The level to set beside the unpruned model: where accuracy holds, else the first pruned.

    None where there is no pruned level or no accuracy.
    """
    held = held_level(levels)
    if held is None or held > 0:
        return held
    pruned = levels.filter(pl.col("level") > 0, metric="accuracy")["level"]
    return min(pruned, default=None)


def accuracy_clause(levels: pl.DataFrame) -> str:
    """How far accuracy holds, short enough for a chart's title."""
    held, level = held_level(levels), shown_level(levels)
    unpruned = value_at(levels, "accuracy", 0)
    if held is None:
        return "No accuracy could be computed"
    if level is None:
        return f"Accuracy is {number(unpruned)} unpruned; no pruned level was evaluated"
    change = f"({number(unpruned)} to {number(value_at(levels, 'accuracy', level))})"
    if held == 0:
        return f"Accuracy falls at level {level} {change}"
    return f"Accuracy holds to level {held} {change}"


def change_clause(levels: pl.DataFrame, metric: str, level: int) -> str | None:
    """How a metric moves from the unpruned model to a level; None where either is unknown."""
    before, after = value_at(levels, metric, 0), value_at(levels, metric, level)
    if before is None or after is None:
        return None
    old, new = number(before), number(after)
    if old == new:
        return f"{label(metric)} stays at {old}"
    return f"{label(metric)} {'rises' if after > before else 'falls'} {old} to {new}"


def summary(levels: pl.DataFrame) -> str:
    """Where accuracy holds, and what ECE, comprehensiveness and sufficiency did there."""
    held, level = held_level(levels), shown_level(levels)
    if held is None or level is None:
        return f"{accuracy_clause(levels)}."
    unpruned = number(value_at(levels, "accuracy", 0))
    pruned = number(value_at(levels, "accuracy", level))
    deepest = levels.filter(metric="accuracy")["level"].max()
    if held == 0:
        first = (
            f"Accuracy falls by more than {MARGIN} already at level {level}, the first one "
            f"evaluated ({unpruned} to {pruned})."
        )
    elif held == deepest:
        first = (
            f"Accuracy falls by no more than {MARGIN} at any level up to {held}, the deepest "
            f"one evaluated ({unpruned} to {pruned})."
        )
    else:
        first = (
            f"Accuracy falls by no more than {MARGIN} up to level {held} ({unpruned} to {pruned})."
        )
    measures = ("ece", "comprehensiveness", "sufficiency")
    clauses = [_judged_change(levels, metric, level) for metric in measures]
    known = [clause for clause in clauses if clause]
    text = f"{first} At level {level} {_listed(known)}." if known else first
    if levels.filter(metric="comprehensiveness").height and not all(clauses[1:]):
        text += f" Explanations of levels 0 and {level} cannot be compared: not both have scores."
    return text


def caveat(levels: pl.DataFrame) -> str:
    """How many examples the numbers rest on, and how exact the accuracy is."""
    accuracy, n = value_at(levels, "accuracy", 0), count(levels, "accuracy")
    if accuracy is None:
        return "No example could be scored at level 0."
    error = standard_error(accuracy, n)
    text = (
        "These are point estimates, not tests: n = "
        f"{n} examples, and the standard error of the unpruned accuracy is {error:.3f}."
    )
    explained = count(levels, "comprehensiveness")
    if explained and explained != n:
        text += f" Comprehensiveness and sufficiency rest on the n = {explained} explained ones."
    return text


def near_chance(levels: pl.DataFrame, guessing: Guessing) -> str | None:
    """A warning where the unpruned accuracy is not two standard errors above guessing."""
    accuracy, n = value_at(levels, "accuracy", 0), count(levels, "accuracy")
    if accuracy is None:
        return None
    reach = 2 * standard_error(accuracy, n) + 1e-9
    guessers = [
        (guessing.uniform, f"drawing an option at random ({number(guessing.uniform)})"),
        (guessing.majority, f"always naming the most frequent one ({number(guessing.majority)})"),
    ]
    near = [text for rate, text in guessers if accuracy - rate <= reach]
    if not near:
        return None
    return (
        f"Near chance: the unpruned accuracy {number(accuracy)} is not more than two standard "
        f"errors above {' or '.join(near)}, so there is little for pruning to take away."
    )


def against_random(levels: pl.DataFrame, level: int) -> str | None:
    """A warning where the explanation is no better than a random ranking, unpruned or at a level.

    High comprehensiveness and low sufficiency are good.
    """
    failures = []
    for metric, sign in (("comprehensiveness", 1), ("sufficiency", -1)):
        for at in sorted({0, level}):
            rows = levels.filter(metric=metric, level=at).select("value", "random_value").rows()
            if rows and None not in rows[0] and sign * (rows[0][0] - rows[0][1]) <= 0:
                where = "unpruned" if at == 0 else f"at level {at}"
                failures.append(
                    f"{label(metric)} {where} ({number(rows[0][0])}, random {number(rows[0][1])})"
                )
    if not failures:
        return None
    return f"No better than a random ranking of the tokens: {_listed(failures)}."


def _judged_change(levels: pl.DataFrame, metric: str, level: int) -> str | None:
    clause = change_clause(levels, metric, level)
    row = levels.filter(metric=metric, level=level)
    if clause is None or "stays" in clause or row["is_worse"][0] is None:
        return clause
    return f"{clause} ({'worse' if row['is_worse'][0] else 'better'})"


def _with_minus(text: str) -> str:
    is_zero = not text.strip("-0.")
    return text.removeprefix("-") if is_zero else text.replace("-", MINUS)


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
