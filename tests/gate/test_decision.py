"""Decisions of a gate: error rates at the boundary of the margin, and power as planned."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import stdtrit

from prunelake.analysis.statistics import exact_interval, tango_interval
from prunelake.gate.decision import decide
from prunelake.gate.evidence import Evidence
from prunelake.gate.margin_tests import CountSample, MeanSample, PairedCounts, SampleAtLook
from prunelake.gate.needed_examples import examples_needed, planned_examples
from prunelake.gate.results import Result, overall

GATES = 600
MARGIN = 0.05


def mean_evidence(losses: np.ndarray) -> Evidence:
    n, loss = len(losses), float(losses.mean())
    se = float(losses.std(ddof=1) / n**0.5)
    half = float(stdtrit(n - 1, 0.95)) * se
    looks = (SampleAtLook(MeanSample(n, loss, se)),)
    return Evidence(loss=loss, low=loss - half, high=loss + half, se=se, n=n, looks=looks)


def accuracy_evidence(losses: np.ndarray) -> Evidence:
    n, lost, won = len(losses), int((losses > 0).sum()), int((losses < 0).sum())
    low, high = tango_interval(lost, won, n, 0.9)
    looks = (SampleAtLook(PairedCounts(n, lost, won)),)
    se = float(losses.std(ddof=1) / n**0.5)
    return Evidence(loss=(lost - won) / n, low=-high, high=-low, se=se, n=n, looks=looks)


def flip_evidence(flips: np.ndarray) -> Evidence:
    n, count = len(flips), int(flips.sum())
    low, high = exact_interval(count, n, 0.9)
    looks = (SampleAtLook(CountSample(n, count)),)
    return Evidence(loss=count / n, low=low, high=high, se=0.0, n=n, looks=looks)


def drawn_gate(generator: np.random.Generator, losses: dict[str, float], n: int) -> list[Evidence]:
    """Evidence of three kinds, twice each, on the same examples; with these true losses."""
    common = generator.normal(size=n)
    found = []
    for _ in range(2):
        luck = 0.6 * common + 0.8 * generator.normal(size=n)
        found.append(mean_evidence(losses["mean"] + 0.2 * luck))
        draw = generator.random(n)
        lost = draw < 0.05 + losses["accuracy"]
        found.append(accuracy_evidence(lost.astype(float) - (draw > 0.95)))
        found.append(flip_evidence(generator.random(n) < losses["flips"]))
    return found


def rates(losses: dict[str, float], n: int = 400) -> dict[Result, float]:
    generator = np.random.default_rng(0)
    results = [
        overall([d.result for d in decide(drawn_gate(generator, losses, n), [MARGIN] * 6)])
        for _ in range(GATES)
    ]
    return {result: results.count(result) / GATES for result in Result}


NONE = {"mean": 0.0, "accuracy": 0.0, "flips": 0.01}
BOUND = 0.05 + 3 * (0.05 * 0.95 / GATES) ** 0.5


def test_a_gate_rarely_fails_where_no_loss_exceeds_its_margin() -> None:
    assert rates(NONE)[Result.failed] == 0.0
    at_margin = rates(dict.fromkeys(NONE, MARGIN))
    assert at_margin[Result.failed] <= BOUND
    assert at_margin[Result.passed] <= BOUND


@pytest.mark.parametrize("kind", NONE)
def test_a_gate_rarely_passes_where_one_loss_reaches_its_margin(kind: str) -> None:
    found = rates(NONE | {kind: MARGIN})
    assert found[Result.passed] <= BOUND
    assert found[Result.failed] <= BOUND


Draw = Callable[[np.random.Generator, int, float], Evidence]

DRAWS: dict[str, Draw] = {
    "mean": lambda generator, n, loss: mean_evidence(generator.normal(loss, 0.2, n)),
    "accuracy": lambda generator, n, loss: accuracy_evidence(
        generator.choice([1.0, 0.0, -1.0], n, p=[0.05 + loss, 0.9 - loss, 0.05])
    ),
    "flips": lambda generator, n, loss: flip_evidence(generator.random(n) < loss),
}


def pilot_with(kind: str, loss: float) -> Evidence:
    """Few examples with exactly this loss, and exactly the spread of DRAWS."""
    if kind == "flips":
        return flip_evidence(np.arange(50) < round(50 * loss))
    if kind == "accuracy":
        counts = np.rint(np.multiply(60, [0.05 + loss, 0.9 - loss, 0.05])).astype(int)
        return accuracy_evidence(np.repeat([1.0, 0.0, -1.0], counts))
    return mean_evidence(loss + 0.2 * np.sqrt(59 / 60) * np.repeat([-1.0, 1.0], 30))


@pytest.mark.parametrize(
    ("kind", "loss", "result"),
    [
        ("mean", 0.0, Result.passed),
        ("mean", 0.1, Result.failed),
        ("accuracy", 0.0, Result.passed),
        ("accuracy", 0.1, Result.failed),
        ("flips", 0.02, Result.passed),
        ("flips", 0.1, Result.failed),
    ],
)
def test_the_needed_rows_decide_as_planned(kind: str, loss: float, result: Result) -> None:
    """A pilot that shows the true loss plans the rows; 80 % of such runs then decide."""
    needed = planned_examples(pilot_with(kind, loss), MARGIN, count=3)
    assert needed is not None
    generator, others = np.random.default_rng(0), [Evidence(), Evidence()]
    results = [
        decide([DRAWS[kind](generator, needed, loss), *others], [MARGIN] * 3)[0].result
        for _ in range(500)
    ]
    assert results.count(result) / 500 == pytest.approx(0.8, abs=0.06)


def test_no_number_of_rows_is_known_without_evidence_or_at_the_margin() -> None:
    assert examples_needed(Evidence(), MARGIN, count=1) is None
    assert examples_needed(pilot_with("mean", 0.0), 1e-9, count=1) is None
    no_flips = flip_evidence(np.zeros(20))
    assert examples_needed(no_flips, MARGIN, count=9) == 59  # 0.95 ** 59 < 0.05
    assert examples_needed(flip_evidence(np.zeros(60)), MARGIN, count=9) == 90  # half as many more
