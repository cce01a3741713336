"""Sentences about a run, from its rows of `run_metrics.headline_metrics`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from prunelake.schema.metrics import ACCURACY_MARGIN
from prunelake.schema.verdicts import Verdict

from .level_names import LevelNames
from .level_rows import (
    HEADLINE_METRICS,
    HIDDEN_VERDICTS,
    JUDGED_METRICS,
    WITHIN_MARGIN_VERDICTS,
    WORSE_VERDICTS,
    baseline_example_count,
    default_level,
    is_published,
    levels_with_verdict,
    pruned_levels,
    stable_levels,
    value_at,
)
from .wording import from_to, interval, label, listed, number


@dataclass(frozen=True)
class GuessingAccuracy:
    """The accuracy of two guessers that see no prompt.

    `uniform` draws one of the options; `majority` always names the most frequent gold option.
    """

    uniform: float
    majority: float


def standard_error(accuracy: float, n: int) -> float:
    """The standard error of a proportion p over n examples: sqrt(p (1 - p) / n)."""
    return math.sqrt(accuracy * (1 - accuracy) / n)


def accuracy_clause(levels: pl.DataFrame) -> str:
    """The levels where accuracy is stable or falls, short enough for the title of a chart."""
    unpruned, deepest = value_at(levels, "accuracy", 0), max(pruned_levels(levels), default=None)
    if levels.is_empty():
        return "This run has no metrics; `prunelake analyse` computes them"
    if unpruned is None:
        return "No accuracy could be computed"
    if deepest is None:
        return f"Accuracy is {number(unpruned)} unpruned; no pruned level was evaluated"
    names = LevelNames.of(levels)
    if is_published(levels):
        shown = pruned_levels(levels) if names.is_comparison else [deepest]
        last = [f"{number(value_at(levels, 'accuracy', at))} {names.at([at])}" for at in shown]
        before = "for the baseline" if names.is_comparison else "unpruned"
        return f"Published accuracy is {number(unpruned)} {before}, {', '.join(last)}"
    if stable := stable_levels(levels):
        return f"Accuracy is stable {names.at(stable)}"
    if fallen := levels_with_verdict(levels, "accuracy", WORSE_VERDICTS):
        none = "for none" if names.is_comparison else "at none"
        return f"Accuracy falls {names.at(fallen)} and is stable {none}"
    return f"No {names.kind} is shown to keep accuracy"


def metric_clause(levels: pl.DataFrame, metric: str) -> str | None:
    """Where a metric is worse, to follow `accuracy_clause`; None for a metric without verdicts."""
    names = LevelNames.of(levels)
    if is_published(levels):
        known = pruned_levels(levels)
        before = value_at(levels, metric, 0)
        changes = [
            from_to(before, after) + (f" {names.at([at])}" if names.is_comparison else "")
            for at in (known if names.is_comparison else known[-1:])
            if None not in (before, after := value_at(levels, metric, at))
        ]
        return f"{label(metric)} {', '.join(changes)}" if changes else None
    if levels.filter(metric=metric)["verdict"].null_count() == levels.filter(metric=metric).height:
        return None
    stable = stable_levels(levels)
    if not stable:
        worse = levels_with_verdict(levels, metric, WORSE_VERDICTS)
        where = f"worse {names.at(worse)}" if worse else "not shown to be worse"
    elif hidden := levels_with_verdict(levels, metric, HIDDEN_VERDICTS):
        everywhere = f"{names.preposition} all of them" if len(stable) > 1 else "there"
        where = f"worse {everywhere if hidden == stable else names.at(hidden)}"
    elif set(stable) <= set(levels_with_verdict(levels, metric, [Verdict.equivalent])):
        where = "equivalent there"
    elif set(stable) <= set(levels_with_verdict(levels, metric, WITHIN_MARGIN_VERDICTS)):
        where = "within its margin there"
    else:
        where = "not shown to be worse there"
    return f"{label(metric)} is {where}"


def summary_sentences(levels: pl.DataFrame, level: int | None = None) -> list[str]:
    """Sentences: the levels that keep accuracy, the worse metrics there, the inconclusive metrics.

    Inconclusive metrics are named for `level`, by default for `level_rows.default_level`.
    """
    at = level or default_level(levels)
    if value_at(levels, "accuracy", 0) is None or at is None:
        return [f"{accuracy_clause(levels)}."]
    if is_published(levels):
        return _published_sentences(levels)
    names = LevelNames.of(levels)
    stable = stable_levels(levels)
    sentences = [_accuracy_sentences(levels, stable)]
    if stable:
        hidden = _worse(levels, JUDGED_METRICS, HIDDEN_VERDICTS)
        where = "Where accuracy is stable," if names.is_comparison else "At the stable levels"
        sentences.append(
            f"Hidden degradation, worse while accuracy is stable: {'; '.join(hidden)}."
            if hidden
            else f"{where} no metric is shown to be worse beyond its margin."
        )
    elif visible := _worse(levels, HEADLINE_METRICS, WORSE_VERDICTS):
        baseline = names.in_baseline_words("unpruned")
        sentences.append(
            f"Worse than {baseline} while accuracy is not stable: {'; '.join(visible)}."
        )
    if slight := _worse(levels, JUDGED_METRICS, [Verdict.worse_within_margin]):
        sentences.append(f"Worse, but within the margin: {'; '.join(slight)}.")
    if inconclusive := _inconclusive_metrics(levels, at):
        sentences.append(f"Inconclusive {names.at([at])}: {'; '.join(inconclusive)}.")
    return sentences


def sample_size_note(levels: pl.DataFrame) -> str:
    """The number of examples behind the numbers; empty without numbers."""
    if is_published(levels):
        return "Published averages give correlations only: intervals and verdicts need examples."
    if value_at(levels, "accuracy", 0) is None:
        return "" if levels.is_empty() else "No example could be scored at level 0."
    text = f"Tests and intervals use n = {baseline_example_count(levels, 'accuracy')} examples"
    explained = baseline_example_count(levels, "comprehensiveness")
    if explained and explained != baseline_example_count(levels, "accuracy"):
        text += f"; for explanations, n = {explained}"
    return f"{text}."


def warnings(
    levels: pl.DataFrame,
    uniform: float | None,
    majority: float | None,
    level: int | None = None,
) -> list[str]:
    """Reasons to trust the numbers of a run less, at level 0 or at a level.

    `uniform` and `majority` are the fields of GuessingAccuracy; None where they are unknown. The
    default level is `level_rows.default_level`.
    """
    texts = [random_baseline_warning(levels, level or default_level(levels) or 0)]
    if uniform is not None and majority is not None:
        texts.insert(0, near_chance_warning(levels, GuessingAccuracy(uniform, majority)))
    return [text for text in texts if text]


def near_chance_warning(levels: pl.DataFrame, guessing: GuessingAccuracy) -> str | None:
    """A warning if the unpruned accuracy is less than two standard errors above guessing."""
    accuracy, n = value_at(levels, "accuracy", 0), baseline_example_count(levels, "accuracy")
    if accuracy is None or n == 0:
        return None
    reach = 2 * standard_error(accuracy, n) + 1e-9
    guessers = [
        (guessing.uniform, f"drawing an option at random ({number(guessing.uniform)})"),
        (
            guessing.majority,
            f"always naming the most frequent option ({number(guessing.majority)})",
        ),
    ]
    near = [text for rate, text in guessers if accuracy - rate <= reach]
    if not near:
        return None
    names = LevelNames.of(levels)
    subject = "accuracy of the baseline" if names.is_comparison else "unpruned accuracy"
    loser = "a candidate can lose little" if names.is_comparison else "pruning can take little away"
    return (
        f"Near chance: the {subject} {number(accuracy)} is not more than two standard "
        f"errors above {' or '.join(near)}, so {loser}."
    )


def random_baseline_warning(levels: pl.DataFrame, level: int) -> str | None:
    """A warning if explanations are no better than a random ranking, at level 0 or at a level.

    Good explanations have a high comprehensiveness and a low sufficiency.
    """
    names = LevelNames.of(levels)
    unpruned = "for the baseline" if names.is_comparison else "unpruned"
    failures = []
    for metric, sign in (("comprehensiveness", 1), ("sufficiency", -1)):
        for at in sorted({0, level}):
            rows = levels.filter(metric=metric, level=at).select("value", "random_value").rows()
            if rows and None not in rows[0] and sign * (rows[0][0] - rows[0][1]) <= 0:
                where = unpruned if at == 0 else names.at([at])
                failures.append(
                    f"{label(metric)} {where} ({number(rows[0][0])}, random {number(rows[0][1])})"
                )
    if not failures:
        return None
    return f"No better than a random ranking of the tokens: {listed(failures)}."


def _accuracy_sentences(levels: pl.DataFrame, stable: list[int]) -> str:
    names = LevelNames.of(levels)
    unpruned = number(value_at(levels, "accuracy", 0))
    if stable:
        whole = f"baseline's {unpruned}" if names.is_comparison else f"unpruned {unpruned}"
        sentences = [
            f"Accuracy is stable {names.at(stable)}: two one-sided tests show that it is within "
            f"{ACCURACY_MARGIN} of the {whole}."
        ]
    else:
        sentences = [
            f"No {names.kind} is shown to keep accuracy within {ACCURACY_MARGIN} of {unpruned}."
        ]
    for verb, verdicts in (("falls", WORSE_VERDICTS), ("rises", [Verdict.improved])):
        if moved := levels_with_verdict(levels, "accuracy", verdicts):
            last = number(value_at(levels, "accuracy", moved[-1]))
            where = f" {names.at([moved[-1]])}" * (len(moved) > 1)
            sentences.append(f"It {verb} {names.at(moved)}, to {last}{where}.")
    if unclear := levels_with_verdict(levels, "accuracy", [Verdict.inconclusive]):
        row = levels.filter(metric="accuracy", level=unclear[0]).row(0, named=True)
        reach = interval(row["equivalence_low"], row["equivalence_high"])
        where = names.at([unclear[0]]) if len(unclear) > 1 else "there"
        change = f"; the change {where} may be {reach} (90 % interval)" * bool(reach)
        sentences.append(f"It is inconclusive {names.at(unclear)}{change}.")
    return " ".join(sentences)


def _worse(levels: pl.DataFrame, metrics: Sequence[str], verdicts: Sequence[str]) -> list[str]:
    """Each metric that is worse at some level: these levels, and its values at the deepest.

    The values of a candidate follow its label.
    """
    names = LevelNames.of(levels)
    clauses = []
    for metric in metrics:
        if metric != "accuracy" and (where := levels_with_verdict(levels, metric, verdicts)):
            before = value_at(levels, metric, 0)
            parts = [[level] for level in where] if names.is_comparison else [where]
            clauses += [
                f"{label(metric)} {names.at(part)} "
                f"({from_to(before, value_at(levels, metric, part[-1]))})"
                for part in parts
            ]
    return clauses


def _inconclusive_metrics(levels: pl.DataFrame, at: int) -> list[str]:
    """The headline metrics that are inconclusive at a level, and the smallest detectable change."""
    clauses = []
    for metric in HEADLINE_METRICS:
        rows = levels.filter(metric=metric, level=at, verdict=Verdict.inconclusive)
        for row in rows.iter_rows(named=True):
            if row["smallest_detectable"] is not None:
                size = number(row["smallest_detectable"], 3)
                clauses.append(f"{label(metric)} (a change below {size} could have been missed)")
            else:
                clauses.append(f"{label(metric)} ({row['note'] or 'error unknown'})")
    return clauses


def _published_sentences(levels: pl.DataFrame) -> list[str]:
    changes = [clause for metric in HEADLINE_METRICS if (clause := metric_clause(levels, metric))]
    kind = LevelNames.of(levels).kind
    return [
        accuracy_clause(levels) + (f": {', '.join(changes)}." if changes else "."),
        f"These values were published without examples. So they cannot show which {kind}s keep "
        "accuracy, and which metrics are worse there.",
    ]
