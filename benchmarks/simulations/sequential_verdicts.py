"""The error rates of sequential verdicts, and their number of examples.

    python -m benchmarks.simulations.sequential_verdicts

Each simulated sweep draws a pilot, plans its examples from it (power 0.95), and adds examples in
rounds until the verdict is decided or the plan is used up. Its number of rows is compared with a
sweep that computes the whole plan at once (fixed). A verdict is wrong if a change of the margin or
more is called equivalent, or if a change is significant with the wrong sign or without a true
change.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.simulations.error_rates import Array, simulated_run
from benchmarks.simulations.planned_power import needed, verdict
from prunelake.analysis import statistics
from prunelake.analysis.bootstrap import CalibrationBootstrap
from prunelake.analysis.example_scores import ExampleScores
from prunelake.analysis.looks import LookSize, scores_at
from prunelake.analysis.sequential import ONE_LOOK, LookTimes, look_times
from prunelake.command_line import rounded_up
from prunelake.sweeps.until_decided.rounds import GROWTH, round_sizes

MARGIN, POWER = 0.02, 0.95
POPULATION, REPLICATES = 100_000, 200
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0)

Draw = Callable[[np.random.Generator, int, float], Array]


def normal(generator: np.random.Generator, n: int, change: float) -> Array:
    """Differences with a standard deviation of 0.15."""
    return generator.normal(change, 0.15, n)


def skewed(generator: np.random.Generator, n: int, change: float) -> Array:
    """Differences: nine tenths are small, and one tenth is large and negative."""
    is_large = generator.random(n) < 0.1
    return np.where(is_large, -0.35, 0.035) + 0.05 * generator.normal(size=n) + change + 0.0035


def answers(generator: np.random.Generator, n: int, change: float) -> Array:
    """Differences between two right or wrong answers: 10 % are discordant."""
    discordant = max(0.1, abs(change))
    shares = [(discordant - change) / 2, 1 - discordant, (discordant + change) / 2]
    return generator.choice([-1.0, 0.0, 1.0], n, p=shares)


def row(differences: Array, looks: LookTimes, is_accuracy: bool) -> dict[str, Any]:
    """The row of metrics of these examples."""
    n, delta = len(differences), float(differences.mean())
    se = float(differences.std(ddof=1) / np.sqrt(n))
    if is_accuracy:
        lost, won = int((differences < 0).sum()), int((differences > 0).sum())
        low, high = statistics.tango_interval(lost, won, n, looks.equivalence_confidence)
        p = statistics.mcnemar_p_value(lost, won)
    else:
        low, high = statistics.Estimate(delta, n, se).interval(looks.equivalence_confidence)
        p = statistics.paired_t_p_value(delta, se, n)
    return {
        "metric": "accuracy" if is_accuracy else "comprehensiveness",
        "n": n,
        "look_count": None,
        "delta": delta,
        "delta_se": se,
        "equivalence_low": low,
        "equivalence_high": high,
        # At most 0.05 if the test rejects; the repeated p-value itself takes longer to compute.
        "p_value": 0.05 * p / (1 - looks.confidence),
    }


@dataclass
class Sweep:
    """The end of one simulated sweep."""

    right: bool
    wrong: bool
    rows: int
    is_ever_wrong: bool
    fixed: int
    fixed_right: bool
    fixed_wrong: bool


def swept(
    generator: np.random.Generator, draw: Draw, change: float, pilot: int, is_accuracy: bool
) -> Sweep:
    """One sweep until the verdict is decided, and the fixed plan on the same examples."""
    first = draw(generator, pilot, change)
    planned = rounded_up(needed(row(first, ONE_LOOK, is_accuracy), MARGIN, POWER))
    rounds = round_sizes(pilot, planned)
    examples = np.append(first, draw(generator, planned, change))
    ends, end = [], None
    for k, count in enumerate(rounds):
        looks = LookTimes(look_times(rounds[: k + 1], rounds[-1]))
        right, wrong = verdict(row(examples[:count], looks, is_accuracy), change, MARGIN)
        ends.append(wrong)
        if end is None and (right or wrong or count == rounds[-1]):
            end = right, wrong, count
    assert end is not None
    at_once = row(examples[:planned], ONE_LOOK, is_accuracy)
    return Sweep(*end, any(ends), planned, *verdict(at_once, change, MARGIN))


def ece_row(run: ExampleScores, looks: LookTimes) -> dict[str, Any]:
    """The row of metrics for the ECE of level 1 of a run, as an analysis computes it."""
    weights = statistics.bootstrap_weights(np.zeros(len(run.example_ids), int), REPLICATES, 0)
    bootstrap = CalibrationBootstrap(run.confidence, run.correct, weights)
    metric = bootstrap.paired_metrics(1, 0)["ece"]
    difference = metric.difference_at(looks)
    return {
        "metric": "ece",
        "n": metric.paired_n,
        "look_count": None,
        "delta": difference.value,
        "delta_se": difference.se,
        "equivalence_low": difference.equivalence_low,
        "equivalence_high": difference.equivalence_high,
        "p_value": 0.05 * metric.difference.p_value / (1 - looks.confidence),
    }


def first_examples(run: ExampleScores, count: int) -> ExampleScores:
    return scores_at(run, range(len(run.example_ids)), LookSize("", count, {}))


def ece_swept(generator: np.random.Generator, sharpness: float, change: float) -> Sweep:
    """One sweep until the ECE is decided, at a margin of 0.05."""
    margin, pilot = 0.05, 100
    first = simulated_run(generator, pilot, 2, [(sharpness, 0.0)], 1.0)
    planned = rounded_up(needed(ece_row(first, ONE_LOOK), margin, POWER))
    rounds = round_sizes(pilot, planned)
    run = simulated_run(generator, planned, 2, [(sharpness, 0.0)], 1.0)
    ends, end = [], None
    for k, count in enumerate(rounds):
        looks = LookTimes(look_times(rounds[: k + 1], rounds[-1]))
        right, wrong = verdict(ece_row(first_examples(run, count), looks), change, margin)
        ends.append(wrong)
        if end is None and (right or wrong or count == rounds[-1]):
            end = right, wrong, count
    assert end is not None
    return Sweep(*end, any(ends), planned, *verdict(ece_row(run, ONE_LOOK), change, margin))


def ece_table(generator: np.random.Generator, count: int) -> Iterator[str]:
    for sharpness in (1.0, 1.15, 1.25, 1.6):
        changes = [(sharpness, 0.0)]
        large = simulated_run(generator, POPULATION, 2, changes, 1.0)
        ece = [ece_row(large, ONE_LOOK)["delta"], 0.0][sharpness == 1.0]
        sweeps = [ece_swept(generator, sharpness, ece) for _ in range(count)]
        yield line("ece", 100, ece / 0.05, sweeps)


def line(name: str, pilot: int, share: float, sweeps: list[Sweep]) -> str:
    mean = {
        name: float(np.mean([getattr(sweep, name) for sweep in sweeps]))
        for name in Sweep.__dataclass_fields__
    }
    return (
        f"| {name} | {pilot} | {share:.3g} | {mean['right']:.3f} "
        f"| {mean['wrong']:.3f} | {mean['is_ever_wrong']:.3f} "
        f"| {np.sqrt(0.05 * 0.95 / len(sweeps)):.3f} "
        f"| {mean['rows']:,.0f} | {mean['fixed_right']:.3f} | {mean['fixed_wrong']:.3f} "
        f"| {mean['fixed']:,.0f} | {mean['rows'] / mean['fixed']:.2f} |"
    )


def table(generator: np.random.Generator, count: int) -> Iterator[str]:
    yield (
        "| differences | pilot | true change / margin | right | wrong | wrong at any look | se "
        "| rows | fixed: right | wrong | rows | ratio |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|---|---|"
    for draw, pilot, is_accuracy in (
        (normal, 24, False),
        (skewed, 24, False),
        (answers, 100, True),
    ):
        ratios = []
        for share in SHARES:
            sweeps = [
                swept(generator, draw, -share * MARGIN, pilot, is_accuracy) for _ in range(count)
            ]
            ratios.append(
                sum(sweep.rows for sweep in sweeps) / sum(sweep.fixed for sweep in sweeps)
            )
            yield line(draw.__name__, pilot, share, sweeps)
        yield f"| {draw.__name__} | {pilot} | mean | | | | | | | | | {np.mean(ratios):.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sweeps", type=int, default=1000)
    parser.add_argument("--ece-sweeps", type=int, default=100)
    given = parser.parse_args()
    print(f"each round has {GROWTH} times as many examples as the one before")
    for text in table(np.random.default_rng(0), given.sweeps):
        print(text, flush=True)
    for text in ece_table(np.random.default_rng(1), given.ece_sweeps):
        print(text, flush=True)


if __name__ == "__main__":
    main()
