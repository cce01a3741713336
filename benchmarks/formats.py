"""What a number format costs in the numbers: each beside float32 on the same rows and levels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np
import polars as pl
from scipy.stats import spearmanr

from benchmarks.subject import FLOAT32, Explained, Format, explain, prepared
from prunelake.plan import Plan
from prunelake.spec import Settings

RESAMPLES = 2_000
COLUMNS = (
    "format",
    "forward tokens a second",
    "against float32",
    "flipped predictions",
    "rank correlation of attributions: mean, least",
    "error of mean comprehensiveness: largest level",
    "its 95 % bootstrap interval is wide",
    "error / interval",
)


@dataclass(frozen=True)
class Agreement:
    """How far one format is from float32; `errors` and `widths` are of the levels' means."""

    flips: int
    predictions: int
    correlations: list[float]
    errors: list[float]
    widths: list[float]


def measure(
    work: Plan, order: tuple[int, ...], settings: Settings, formats: Sequence[Format]
) -> Iterator[list[str]]:
    """The rows of the table; the first of the formats is float32."""
    assert formats[0] is FLOAT32
    found: list[Explained] = []
    for number in formats:
        subject = prepared(work, order, settings, number)
        found.append(explain(subject))
        rate, exact_rate = rate_of(found[-1]), rate_of(found[0])
        cells = [number.name, f"{rate:,.0f}", f"{rate / exact_rate:.2f} x"]
        own = agreement(found[0], found[-1])
        ratio = max(e / w if w else 0.0 for e, w in zip(own.errors, own.widths, strict=True))
        yield [
            *cells,
            f"{own.flips} of {own.predictions}",
            f"{mean(own.correlations):.4f}, {min(own.correlations):.4f}",
            f"{max(own.errors):.4f}",
            f"{mean(own.widths):.4f}",
            f"{ratio:.3f}",
        ]


def rate_of(found: Explained) -> float:
    return sum(found.tokens.values()) / sum(found.seconds.values())


def agreement(exact: Explained, other: Explained) -> Agreement:
    key = ["level", "example_id"]
    predictions = exact.predictions.join(other.predictions, on=key, suffix="_other")
    flips = (predictions["prediction"] != predictions["prediction_other"]).sum()
    scores = exact.attributions.join(other.attributions, on=[*key, "seed"], suffix="_other")
    pairs = scores.select("scores", "scores_other").iter_rows()
    correlations = [float(spearmanr(one, two).statistic) for one, two in pairs]
    own = comprehensiveness(exact).join(comprehensiveness(other), on=key, suffix="_other")
    errors, widths = [], []
    for level in own.partition_by("level"):
        value, changed = level["value"].to_numpy(), level["value_other"].to_numpy()
        errors.append(float(abs(value.mean() - changed.mean())))
        drawn = np.random.default_rng(0).integers(len(value), size=(RESAMPLES, len(value)))
        low, high = np.quantile(value[drawn].mean(1), [0.025, 0.975])
        widths.append(float(high - low))
    return Agreement(int(flips), len(predictions), correlations, errors, widths)


def comprehensiveness(found: Explained) -> pl.DataFrame:
    """Of each level and example the mean loss of probability over the fractions and seeds."""
    lost = pl.col("probability_full") - pl.col("probability_perturbed")
    deleted = found.deletions.filter(kind="comprehensiveness")
    return deleted.group_by("level", "example_id").agg(lost.mean().alias("value")).sort("level")
