"""Sentences about a run, from its rows of `run_metrics.headline_metrics`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from prunelake.schema.metrics import ACCURACY_MARGIN

from .level_rows import (
    HEADLINE_METRICS,
    HIDDEN_VERDICTS,
    JUDGED_METRICS,
    WORSE_VERDICTS,
    baseline_example_count,
    default_level,
    is_published,
    levels_with_verdict,
    pruned_levels,
    stable_levels,
    value_at,
)
from .wording import at_levels, from_to, interval, label, listed, number


@dataclass(frozen=True)
class GuessingAccuracy:
    """The accuracy of two guessers that see no prompt.

    `uniform` draws one of the options, `majority` always names the most frequent gold option.
    """

    uniform: float
    majority: float


def standard_error(accuracy: float, n: int) -> float:
    """Of a proportion: sqrt(p (1 - p) / n)."""
    return math.sqrt(accuracy * (1 - accuracy) / n)


def accuracy_clause(levels: pl.DataFrame) -> str:
    """What became of accuracy, short enough for a chart's title."""
    unpruned, deepest = value_at(levels, "accuracy", 0), max(pruned_levels(levels), default=None)
    if levels.is_empty():
        return "Nothing is known of this run until `prunelake analyse` has computed its metrics"
    if unpruned is None:
        return "No accuracy could be computed"
    if deepest is None:
        return f"Accuracy is {number(unpruned)} unpruned; no pruned level was evaluated"
    if is_published(levels):
        last = number(value_at(levels, "accuracy", deepest))
        return f"Published accuracy is {number(unpruned)} unpruned, {last} at level {deepest}"
    if stable := stable_levels(levels):
        return f"Accuracy is stable at {_at(levels, stable)}"
    if fallen := levels_with_verdict(levels, "accuracy", WORSE_VERDICTS):
        return f"Accuracy falls at {_at(levels, fallen)} and is stable at none"
    return "No level is shown to keep accuracy"


def metric_clause(levels: pl.DataFrame, metric: str) -> str | None:
    """Where a metric is worse, to follow `accuracy_clause`; None where it is not judged."""
    if is_published(levels):
        deepest = max(pruned_levels(levels), default=0)
        before, after = value_at(levels, metric, 0), value_at(levels, metric, deepest)
        return None if None in (before, after) else f"{label(metric)} {from_to(before, after)}"
    if levels.filter(metric=metric)["verdict"].null_count() == levels.filter(metric=metric).height:
        return None
    stable = stable_levels(levels)
    if not stable:
        worse = levels_with_verdict(levels, metric, WORSE_VERDICTS)
        where = f"worse at {_at(levels, worse)}" if worse else "not shown to be worse"
    elif hidden := levels_with_verdict(levels, metric, HIDDEN_VERDICTS):
        everywhere = "at all of them" if len(stable) > 1 else "there"
        where = f"worse {everywhere if hidden == stable else f'at {_at(levels, hidden)}'}"
    elif set(stable) <= set(levels_with_verdict(levels, metric, ["equivalent"])):
        where = "equivalent there"
    else:
        where = "not shown to be worse there"
    return f"{label(metric)} is {where}"


def one_line_summary(levels: pl.DataFrame) -> str:
    """The run in a few words, for a list of runs."""
    hidden = [label(m) for m in JUDGED_METRICS if levels_with_verdict(levels, m, HIDDEN_VERDICTS)]
    text = accuracy_clause(levels)
    if stable_levels(levels):
        text += f"; hidden degradation: {listed(hidden) if hidden else 'none shown'}"
    return text


def summary_sentences(levels: pl.DataFrame, level: int | None = None) -> list[str]:
    """Sentences: which levels keep accuracy, what is worse there, and what could not be told.

    What could not be told is that of `level`, by default of the shown one.
    """
    at = level or default_level(levels)
    if value_at(levels, "accuracy", 0) is None or at is None:
        return [f"{accuracy_clause(levels)}."]
    if is_published(levels):
        return _published_sentences(levels)
    stable = stable_levels(levels)
    sentences = [_accuracy_sentences(levels, stable)]
    if stable:
        found = _worse(levels, JUDGED_METRICS, HIDDEN_VERDICTS)
        sentences.append(
            f"Hidden degradation, worse while accuracy is stable: {'; '.join(found)}."
            if found
            else "At the stable levels no metric is shown to be worse."
        )
    elif found := _worse(levels, HEADLINE_METRICS, WORSE_VERDICTS):
        sentences.append(f"Worse than unpruned, accuracy not being stable: {'; '.join(found)}.")
    if missed := _inconclusive_metrics(levels, at):
        sentences.append(f"Inconclusive at level {at}: {'; '.join(missed)}.")
    return sentences


def sample_size_note(levels: pl.DataFrame) -> str:
    """How many examples the numbers rest on; empty where there are no numbers."""
    if is_published(levels):
        return (
            "A table does not tell how exact its values are: no intervals, no verdicts, and "
            "correlations of the published numbers only."
        )
    if value_at(levels, "accuracy", 0) is None:
        return "" if levels.is_empty() else "No example could be scored at level 0."
    text = f"Tests and intervals rest on n = {baseline_example_count(levels, 'accuracy')} examples"
    explained = baseline_example_count(levels, "comprehensiveness")
    if explained and explained != baseline_example_count(levels, "accuracy"):
        text += f", those of explanations on the n = {explained} explained ones"
    return f"{text}."


def warnings(
    levels: pl.DataFrame,
    uniform: float | None,
    majority: float | None,
    level: int | None = None,
) -> list[str]:
    """What makes the numbers of a run say less than they seem to, unpruned or at a level.

    `uniform` and `majority` are as in Guessing; None where they are not known. Without a level it
    is the shown one.
    """
    found = [random_baseline_warning(levels, level or default_level(levels) or 0)]
    if uniform is not None and majority is not None:
        found.insert(0, near_chance_warning(levels, GuessingAccuracy(uniform, majority)))
    return [text for text in found if text]


def near_chance_warning(levels: pl.DataFrame, guessing: GuessingAccuracy) -> str | None:
    """A warning where the unpruned accuracy is not two standard errors above guessing."""
    accuracy, n = value_at(levels, "accuracy", 0), baseline_example_count(levels, "accuracy")
    if accuracy is None or n == 0:
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


def random_baseline_warning(levels: pl.DataFrame, level: int) -> str | None:
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
    return f"No better than a random ranking of the tokens: {listed(failures)}."


def _accuracy_sentences(levels: pl.DataFrame, stable: list[int]) -> str:
    unpruned = number(value_at(levels, "accuracy", 0))
    if stable:
        sentences = [
            f"Accuracy is stable at {_at(levels, stable)}: two one-sided tests place it within "
            f"{ACCURACY_MARGIN} of the unpruned {unpruned}."
        ]
    else:
        sentences = [f"No level is shown to keep accuracy within {ACCURACY_MARGIN} of {unpruned}."]
    for verb, verdicts in (("falls", WORSE_VERDICTS), ("rises", ["improved"])):
        if moved := levels_with_verdict(levels, "accuracy", verdicts):
            last = number(value_at(levels, "accuracy", moved[-1]))
            where = f" at level {moved[-1]}" * (len(moved) > 1)
            sentences.append(f"It {verb} at {_at(levels, moved)}, to {last}{where}.")
    if unclear := levels_with_verdict(levels, "accuracy", ["inconclusive"]):
        row = levels.filter(metric="accuracy", level=unclear[0]).row(0, named=True)
        reach = interval(row["equivalence_low"], row["equivalence_high"])
        where = f"at level {unclear[0]}" if len(unclear) > 1 else "there"
        change = f"; the change {where} may be {reach} (90 % interval)" * bool(reach)
        sentences.append(f"It is inconclusive at {_at(levels, unclear)}{change}.")
    return " ".join(sentences)


def _worse(levels: pl.DataFrame, metrics: Sequence[str], verdicts: Sequence[str]) -> list[str]:
    """Each metric that is worse somewhere, where, and how far at the deepest such level."""
    found = []
    for metric in metrics:
        if metric != "accuracy" and (where := levels_with_verdict(levels, metric, verdicts)):
            change = from_to(value_at(levels, metric, 0), value_at(levels, metric, where[-1]))
            found.append(f"{label(metric)} at {_at(levels, where)} ({change})")
    return found


def _inconclusive_metrics(levels: pl.DataFrame, at: int) -> list[str]:
    """The headline metrics that are inconclusive at a level, and what could have been missed."""
    missed = []
    for metric in HEADLINE_METRICS:
        rows = levels.filter(metric=metric, level=at, verdict="inconclusive")
        for row in rows.iter_rows(named=True):
            if row["smallest_detectable"] is not None:
                size = number(row["smallest_detectable"], 3)
                missed.append(f"{label(metric)} (a change below {size} could have been missed)")
            else:
                missed.append(f"{label(metric)} ({row['note'] or 'error not known'})")
    return missed


def _published_sentences(levels: pl.DataFrame) -> list[str]:
    changes = [clause for metric in HEADLINE_METRICS if (clause := metric_clause(levels, metric))]
    return [
        accuracy_clause(levels) + (f": {', '.join(changes)}." if changes else "."),
        "These values were published without examples, so which levels keep accuracy, and what is "
        "worse there, cannot be known.",
    ]


def _at(levels: pl.DataFrame, chosen: list[int]) -> str:
    return at_levels(chosen, sorted(set(levels["level"])))
