"""Planned power compared with achieved power.

    python -m benchmarks.simulations.planned_power

Each simulated study draws a pilot, plans its examples from it (margin 0.02 or 0.05, power 0.8),
draws that many new examples and tests them as an analysis does. A verdict is right if the change is
shown to lie within the margin and truly does, or if it is significant with the true sign.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from benchmarks.simulations.error_rates import SAME, simulated_run
from prunelake.analysis import statistics
from prunelake.analysis.analyse import analyse_examples
from prunelake.analysis.bootstrap import bootstrap_metrics
from prunelake.analysis.power import PairedSpread, examples_for_changes_between
from prunelake.planning.pilots import measured_spread

REPLICATES = 300
POPULATION = 400_000
HEAD = (
    "| metric | pilot | true change / margin | studies | examples: median | 10 % to 90 % | right "
    "| wrong | se |\n|---|---|---|---|---|---|---|---|---|"
)


def needed(row: dict[str, Any], margin: float, power: float = 0.8) -> int:
    """The number of examples of a plan after this pilot, without the limits of its interval."""
    spread = measured_spread(row)
    assert spread is not None
    # Three digits, so that most plans are found in the cache.
    return _needed(
        replace(spread, sd=float(f"{spread.sd:.3g}"), excess=float(f"{spread.excess:.3g}")),
        margin,
        power,
    )


@cache
def _needed(spread: PairedSpread, margin: float, power: float) -> int:
    return examples_for_changes_between(-np.inf, np.inf, spread, margin, power)


def verdict(row: dict[str, Any], change: float, margin: float) -> tuple[bool, bool]:
    """Whether the verdict is right, and whether it is wrong; an inconclusive verdict is neither."""
    low, high = row["equivalence_low"], row["equivalence_high"]
    is_equivalent = low > -margin and high < margin
    is_significant = row["p_value"] <= 0.05
    has_sign = change != 0 and np.sign(row["delta"]) == np.sign(change)
    right = (is_equivalent and abs(change) < margin) or (is_significant and has_sign)
    wrong = (is_equivalent and abs(change) >= margin) or (is_significant and not has_sign)
    return bool(right), bool(wrong)


def line(
    metric: str, pilot: int, share: float, counts: list[int], verdicts: list[tuple[bool, bool]]
) -> str:
    right, wrong = np.mean(verdicts, axis=0)
    low, median, high = np.quantile(counts, [0.1, 0.5, 0.9])
    se = np.sqrt(right * (1 - right) / len(verdicts))
    return (
        f"| {metric} | {pilot} | {share:g} | {len(verdicts)} | {median:,.0f} "
        f"| {low:,.0f} to {high:,.0f} | {right:.3f} | {wrong:.3f} | {se:.3f} |"
    )


def of_mean(generator: np.random.Generator, n: int, change: float, sd: float) -> dict[str, Any]:
    """A row of metrics for the mean of `n` normal differences."""
    delta = generator.normal(change, sd / np.sqrt(n))
    se = sd * np.sqrt(generator.chisquare(n - 1) / (n - 1) / n)
    low, high = statistics.Estimate(delta, n, se).interval(0.9)
    return {
        "metric": "comprehensiveness",
        "n": n,
        "look_count": None,
        "delta": delta,
        "delta_se": se,
        "equivalence_low": low,
        "equivalence_high": high,
        "p_value": statistics.paired_t_p_value(delta, se, n),
    }


def of_accuracy(
    generator: np.random.Generator, n: int, change: float, discordant: float
) -> dict[str, Any]:
    """A row of metrics for `n` pairs of answers."""
    shares = [(discordant - change) / 2, (discordant + change) / 2, 1 - discordant]
    lost, won, _ = generator.multinomial(n, shares).tolist()
    low, high = statistics.tango_interval(lost, won, n, 0.9)
    delta = (won - lost) / n
    return {
        "metric": "accuracy",
        "n": n,
        "look_count": None,
        "delta": delta,
        "delta_se": np.sqrt(((lost + won) / n - delta**2) / (n - 1)),
        "equivalence_low": low,
        "equivalence_high": high,
        "p_value": statistics.mcnemar_p_value(lost, won),
    }


def drawn(generator: np.random.Generator, count: int) -> Iterator[str]:
    """Means and accuracies, drawn directly."""
    margin = 0.02
    for metric, draw, spread, pilots in (
        ("mean, sd 0.15", of_mean, 0.15, (8, 24, 100)),
        ("accuracy, 10 % discordant", of_accuracy, 0.1, (100, 400)),
    ):
        for pilot in pilots:
            for share in (0.0, 0.5, 1.0, 2.0):
                counts, verdicts = [], []
                for _ in range(count):
                    change = -share * margin
                    counts.append(needed(draw(generator, pilot, change, spread), margin))
                    row = draw(generator, counts[-1], change, spread)
                    verdicts.append(verdict(row, change, margin))
                yield line(metric, pilot, share, counts, verdicts)


def analysed(generator: np.random.Generator, count: int) -> Iterator[str]:
    """ECE and Brier score, from simulated runs through the analysis."""
    margin, pilot = 0.05, 100
    for sharpness in (1.0, 1.25, 1.6):
        changes = [(sharpness, 0.0)]
        truth = bootstrap_metrics(
            simulated_run(generator, POPULATION, POPULATION, changes, 1.0), 1, 0
        )
        keys = {metric: (metric, "", "", "") for metric in ("ece", "brier")}
        true = {metric: truth[1][k].value - truth[0][k].value for metric, k in keys.items()}
        if changes == [SAME]:
            true = dict.fromkeys(true, 0.0)
        counts: dict[str, list[int]] = {metric: [] for metric in keys}
        verdicts: dict[str, list[tuple[bool, bool]]] = {metric: [] for metric in keys}
        for seed in range(count):
            rows = _rows(generator, pilot, changes, seed)
            for metric in keys:
                counts[metric].append(needed(rows[metric], margin))
                after = _rows(generator, counts[metric][-1], changes, seed)
                verdicts[metric].append(verdict(after[metric], true[metric], margin))
        for metric in keys:
            share = true[metric] / margin
            yield line(metric, pilot, round(share, 2), counts[metric], verdicts[metric])


def _rows(
    generator: np.random.Generator, n: int, changes: list[tuple[float, float]], seed: int
) -> dict[str, dict[str, Any]]:
    run = simulated_run(generator, n, 2, changes, 1.0)
    rows = analyse_examples(run, REPLICATES, seed)[0]
    return {
        row["metric"]: row | {"n": row["paired_n"], "look_count": None}
        for row in rows
        if row["level"] == 1
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--analysed-studies", type=int, default=200)
    given = parser.parse_args()
    print(HEAD)
    for part, count in ((drawn, given.studies), (analysed, given.analysed_studies)):
        for text in part(np.random.default_rng(0), count):
            print(text, flush=True)


if __name__ == "__main__":
    main()
