"""Every metric of a level, and of its difference from level 0, over resamples of the examples."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from prunelake import calibration, stats
from prunelake.evidence import Cell, Evidence

Replicates = NDArray[np.floating]
Members = NDArray[np.bool_]


class Measured(NamedTuple):
    """One metric at one level, and beside level 0 over the examples known at both.

    `replicates` are of the value, `differences` of paired_value - unpruned_value: [replicates].
    Each value may lie off its truth by up to its bias on average.
    """

    value: float
    n: int
    replicates: Replicates
    bias: float
    paired_value: float
    paired_bias: float
    unpruned_value: float
    unpruned_bias: float
    paired_n: int
    differences: Replicates


def measure(found: Evidence, replicates: int, seed: int) -> list[Mapping[Cell, Measured]]:
    """Every metric at every level, all from the same resamples: paired by construction."""
    weights = stats.resample(found.is_explained.astype(int), replicates, seed)
    scorer = _Scorer(found, weights)
    base = found.levels.index(0)
    scorer.level(base, base)  # what every level is set beside; found ready by all
    places = range(len(found.levels))
    with ThreadPoolExecutor() as pool:
        means = pool.map(lambda place: _means(found, place, base, weights), places)
        scores = pool.map(lambda place: scorer.level(place, base), places)
        return [mean | score for mean, score in zip(means, scores, strict=True)]


def _means(
    found: Evidence, place: int, base: int, weights: NDArray[np.float32]
) -> dict[Cell, Measured]:
    own, unpruned = found.values[place], found.values[base]
    value, n, replicates = stats.means(own, weights)
    delta, paired_n, differences = stats.means(own - unpruned, weights)
    unpruned_value, _, _ = stats.means(np.where(np.isnan(own), np.nan, unpruned), weights[:, :0])
    optimism, unpruned_optimism = float(found.optimism[place]), float(found.optimism[base])
    sign = {"brier_calibration": 1, "brier_refinement": -1}  # of those fitted to the sample
    return {
        cell: Measured(
            float(value[i]),
            int(n[i]),
            replicates[i],
            optimism * sign.get(cell[0], 0),
            float(unpruned_value[i] + delta[i]),
            optimism * sign.get(cell[0], 0),
            float(unpruned_value[i]),
            unpruned_optimism * sign.get(cell[0], 0),
            int(paired_n[i]),
            differences[i],
        )
        for i, cell in enumerate(found.cells)
    }


class _Score(NamedTuple):
    value: float
    replicates: Replicates


class _Scorer:
    """The scores that are no means, each sample of a level computed once."""

    def __init__(self, found: Evidence, weights: NDArray[np.float32]) -> None:
        self.found = found
        self.weights = weights
        self.done: dict[tuple[int, bytes], dict[str, _Score]] = {}

    def level(self, place: int, base: int) -> dict[Cell, Measured]:
        known = ~np.isnan(self.found.confidence)
        own = self.scores(place, known[place])
        both = known[place] & known[base]
        paired, unpruned = self.scores(place, both), self.scores(base, both)
        return {
            (name, "", "", ""): Measured(
                own[name].value,
                int(known[place].sum()),
                own[name].replicates,
                stats.possible_bias(*own[name]),
                paired[name].value,
                stats.possible_bias(*paired[name]),
                unpruned[name].value,
                stats.possible_bias(*unpruned[name]),
                int(both.sum()),
                paired[name].replicates - unpruned[name].replicates,
            )
            for name in own
        }

    def scores(self, place: int, members: Members) -> dict[str, _Score]:
        key = (place, members.tobytes())
        if key not in self.done:
            confidence = self.found.confidence[place][members]
            correct = self.found.correct[place][members]
            weights = self.weights
            if not members.all():
                weights = weights[members]
                weights[:, ~weights.any(axis=0)] = np.nan  # a resample of none of them
            if len(confidence):
                replicates = calibration.scores(confidence, correct, weights)
                values = calibration.scores(confidence, correct, np.ones((len(confidence), 1)))
            else:
                unknown = np.full(weights.shape[1], np.nan)
                replicates = dict.fromkeys(calibration.SCORES, unknown)
                values = dict.fromkeys(calibration.SCORES, unknown[:1])
            self.done[key] = {
                name: _Score(float(values[name][0]), replicates[name]) for name in values
            }
        return self.done[key]
