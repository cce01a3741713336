"""How often the 95 % interval of an ECE difference contains the true difference.

    python -m benchmarks.simulations.calibration_intervals [--runs 200] [--examples 1000] [--seed 7]

Level 0 is calibrated or overconfident; the other level has an ECE that is larger by a known change.
The distribution is that of error_rates.py: four options have latent scores, their softmax draws the
right option, and each level adds new noise to the scores and multiplies them by a sharpness.
The truth is the ECE of a million examples. Prints a table of coverage, and of the misses on both
sides.
"""

import argparse

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from benchmarks.simulations.error_rates import NOISE, SPREAD
from prunelake.analysis import calibration, statistics
from prunelake.analysis.bootstrap import BootstrappedMetric

Array = NDArray[np.float64]

POPULATION = 1_000_000
REPLICATES = 300
SHARPNESS = np.linspace(1.0, 3.0, 41)
CHANGES = (0.0, 0.01, 0.02, 0.03, 0.05)
OVERCONFIDENT = (0.03, 0.08)
"""The true ECE of an overconfident level 0."""


def latent_scores(generator: np.random.Generator, n: int) -> tuple[Array, NDArray[np.int64]]:
    """Latent scores [n, options], and the right options [n]."""
    latent = SPREAD * generator.standard_normal((n, 4))
    return latent, (latent + generator.gumbel(size=latent.shape)).argmax(axis=1)


def predictions(
    generator: np.random.Generator, latent: Array, gold: NDArray[np.int64], sharpness: float
) -> tuple[Array, Array]:
    """Confidence and correctness [n] at a level of this sharpness."""
    noisy = latent + NOISE * generator.standard_normal(latent.shape)
    p = softmax(sharpness * noisy, axis=1)
    return p.max(axis=1), (p.argmax(axis=1) == gold).astype(float)


def true_errors(generator: np.random.Generator) -> Array:
    """The true ECE at each SHARPNESS."""
    latent, gold = latent_scores(generator, POPULATION)
    one = np.ones((POPULATION, 1))
    return np.array(
        [
            calibration.ece(*predictions(generator, latent, gold, sharpness), one)[0]
            for sharpness in SHARPNESS
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    generator = np.random.default_rng(given.seed)
    truth = true_errors(generator)
    n, one = given.examples, np.ones((given.examples, 1))
    print("| true ECE of level 0 | true change | held | above | below | mean width |")
    print("|---|---|---|---|---|---|")
    for base in (float(truth[0]), *OVERCONFIDENT):
        for change in CHANGES:
            sharpness = np.interp([base, base + change], truth, SHARPNESS)
            ends = []
            for seed in range(given.runs):
                latent, gold = latent_scores(generator, n)
                weights = statistics.bootstrap_weights(np.zeros(n, dtype=int), REPLICATES, seed)
                values, replicates = [], []
                for level in sharpness:
                    found = predictions(generator, latent, gold, float(level))
                    values.append(float(calibration.ece(*found, one)[0]))
                    replicates.append(calibration.ece(*found, weights))
                biases = [
                    statistics.bias_bound(*pair) for pair in zip(values, replicates, strict=True)
                ]
                metric = BootstrappedMetric(
                    value=values[1],
                    n=n,
                    replicates=replicates[1],
                    bias=biases[1],
                    paired_value=values[1],
                    paired_bias=biases[1],
                    baseline_value=values[0],
                    baseline_bias=biases[0],
                    paired_n=n,
                    differences=replicates[1] - replicates[0],
                )
                ends.append((metric.difference.low, metric.difference.high))
            low, high = np.array(ends).T
            held, above, below = (
                (low <= change) & (change <= high),
                change > high,
                change < low,
            )
            print(
                f"| {base:.3f} | {change:g} | {held.mean():.3f} | {above.mean():.3f} "
                f"| {below.mean():.3f} | {(high - low).mean():.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
