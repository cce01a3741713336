"""The numerical cost of number formats: each compared with float32 on the same rows and levels.

    python -m benchmarks.formats [--quick] [--tasks arc_easy,sst2 --rows 24 --levels 0,8,15]

Predictions, KernelSHAP and deletion curves in every format that the device has. The last column
decides: a format may be the default if this column is below 0.1 in all lines. Writes
docs/measurements/formats.md.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np
import polars as pl
from scipy.stats import spearmanr

from benchmarks import report
from benchmarks.subject import (
    FLOAT32,
    Explained,
    NumberFormat,
    device_of,
    explain,
    formats_of,
    order_of,
    plan_of,
    prepared,
    settings_of,
)
from prunelake.settings import Settings
from prunelake.sweeps.plan import SweepPlan

RESAMPLES = 2_000
COLUMNS = (
    "task",
    "format",
    "forward tokens a second",
    "against float32",
    "flipped predictions",
    "rank correlation of attributions: mean, least",
    "error of mean comprehensiveness, by level",
    "width of its 95 % bootstrap interval",
    "error / width",
)


@dataclass(frozen=True)
class Agreement:
    """The differences of one format from float32; `errors` and `widths` are by level."""

    flips: int
    predictions: int
    correlations: list[float]
    errors: list[float]
    widths: list[float]


def measure(
    work: SweepPlan, order: tuple[int, ...], settings: Settings, formats: Sequence[NumberFormat]
) -> Iterator[list[str]]:
    """The rows of the table; the first of the formats is float32."""
    assert formats[0] is FLOAT32
    found: list[Explained] = []
    for number in formats:
        subject = prepared(work, order, settings, number)
        found.append(explain(subject))
        rate, exact_rate = rate_of(found[-1]), rate_of(found[0])
        cells = [work.spec.task_name, number.name, f"{rate:,.0f}", f"{rate / exact_rate:.2f} x"]
        own = agreement(found[0], found[-1])
        ratios = [e / w if w else np.nan for e, w in zip(own.errors, own.widths, strict=True)]
        yield [
            *cells,
            f"{own.flips} of {own.predictions}",
            f"{mean(own.correlations):.4f}, {min(own.correlations):.4f}",
            *(", ".join(f"{x:.4f}" for x in column) for column in (own.errors, own.widths)),
            ", ".join(f"{ratio:.3f}" for ratio in ratios),
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
    """The mean loss of probability over fractions and seeds, for each level and example."""
    lost = pl.col("probability_full") - pl.col("probability_perturbed")
    deleted = found.deletions.filter(kind="comprehensiveness")
    return deleted.group_by("level", "example_id").agg(lost.mean().alias("value")).sort("level")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2 rows")
    parser.add_argument("--tasks", help="default: arc_easy, or a bundled one")
    parser.add_argument("--rows", type=int, help="of each task")
    parser.add_argument("--levels", default="0,8,15")
    parser.add_argument("--device", help="cpu, cuda; default: PRUNELAKE_DEVICE")
    options = parser.parse_args()
    settings = settings_of(options.device)
    given = options.tasks or ("arc_easy" if settings.data else "everyday_knowledge")
    tasks = given.split(",")
    count = options.rows or (2 if options.quick else 24)
    levels = tuple(map(int, options.levels.split(",")))
    load, rows = os.getloadavg()[0], []
    for task in tasks:
        work = plan_of(task, count, levels, settings)
        formats = formats_of(work, settings)
        for cells in measure(work, order_of(work, settings), settings, formats):
            print(" | ".join(cells), file=sys.stderr, flush=True)
            rows.append(cells)
    command = " ".join(["python -m benchmarks.formats", *sys.argv[1:]])
    told = (
        f"{work.spec.model}: {count} rows of each task at levels {options.levels} of the cosine "
        "order in float32, KernelSHAP under one seed, deleted text."
    )
    head = report.head(command, device_of(settings), ("torch", "transformers"), load)
    report.write(
        "formats", ["# Number formats", "", head, "", told, "", *report.table(COLUMNS, rows)]
    )


if __name__ == "__main__":
    main()
