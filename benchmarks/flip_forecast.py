"""Compare the forecast of flips with the pilot's own rate, on real comparisons.

    PRUNELAKE_DATA=data python -m benchmarks.flip_forecast [--lake LAKE] [--draws 200]

Reads the 18 comparisons in PRUNELAKE_DATA/flips (three models in int8 and int4 on three tasks), and
with `--lake` every pruned level of the largest run of each model and task. For each comparison it
draws random pilots, estimates the flip rate of the other rows from the pilot, and prints the errors
of each estimate: the forecast (`analysis.flip_forecast`), the pilot's own rate, a pilot rate that
is shrunk to the rates of the other comparisons by a beta prior, logistic and isotonic regression on
the margin. The files have one confidence for each answer, so the margin is the logit of the
confidence, which is at most 1 - 1e-7. The same for harmful flips, from the rows that the baseline
answers right; all errors are in percentage points of the rows.
"""

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from prunelake.analysis.flip_forecast import FlipModel
from prunelake.analysis.statistics import CONFIDENCE_LEVEL, exact_interval
from prunelake.lake.sql.views import query
from prunelake.schema.arrays import FloatArray

Flags = NDArray[np.bool_]

PILOTS = (30, 50, 100, 200)
HIGHEST_CONFIDENCE = 1 - 1e-7
HEAD = (
    "| source | flips | pilot | estimate | RMSE | of the pilot's | better in | worst | "
    "mean absolute error | bias | coverage | width |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Comparison:
    """A candidate beside its baseline: margins, flips and right answers of the baseline."""

    source: str
    name: str
    margins: FloatArray
    is_flip: Flags
    is_right: Flags | None


def published_comparisons(folder: Path) -> Iterator[Comparison]:
    """The comparisons in the folder of published predictions."""
    items = json.loads((folder / "items.json").read_text())
    for path in sorted(folder.glob("*__fp16__*.json")):
        model, _, task = path.stem.rsplit("__", 2)
        baseline = json.loads(path.read_text())
        predictions = np.array(baseline["preds"])
        confidence = np.clip(baseline["confs"], 0.5, HIGHEST_CONFIDENCE)
        for dtype in ("int8", "int4"):
            candidate = json.loads((folder / f"{model}__{dtype}__{task}.json").read_text())
            yield Comparison(
                "published",
                f"{model.split('__')[-1]} {dtype} {task}",
                logit(confidence),
                predictions != np.array(candidate["preds"]),
                predictions == np.array([item["answer"] for item in items[task]]),
            )


def level_comparisons(lake: Path) -> Iterator[Comparison]:
    """Every pruned level of the run with the most examples of each model and task."""
    cells = query(
        lake,
        """
        with chosen as (
            from runs
            where removal_order is not null
            qualify row_number() over (
                partition by model, task order by example_count desc, created_at desc
            ) = 1
        )
        select
            chosen.model, chosen.task, found.level,
            list(list_reverse_sort(base.option_log_likelihoods)[1]
                - list_reverse_sort(base.option_log_likelihoods)[2] order by base.example_id)
                as margins,
            list(found.prediction != base.prediction order by base.example_id) as is_flip,
            list(base.is_correct order by base.example_id) as is_right,
        from chosen
        inner join predictions as base on chosen.run_id = base.run_id and base.level = 0
        inner join predictions as found
            on base.run_id = found.run_id and base.example_id = found.example_id
        where found.level > 0
        group by all
        order by all
        """,
    )
    for row in cells.iter_rows(named=True):
        has_gold = None not in row["is_right"]
        yield Comparison(
            "levels",
            f"{row['model'].split('/')[-1]} {row['task']} level {row['level']}",
            np.array(row["margins"]),
            np.array(row["is_flip"]),
            np.array(row["is_right"]) if has_gold else None,
        )


@dataclass(frozen=True)
class Errors:
    """The errors of an estimate over the draws of a comparison, in shares of its other rows."""

    rmse: float
    mae: float
    bias: float
    coverage: float
    width: float


def estimates(
    comparison: Comparison, pilot: int, draws: int, prior: tuple[float, float], of_right: bool
) -> dict[str, Errors]:
    """The errors of every estimate with pilots of this size; `prior` is a beta distribution.

    With `of_right` the estimate counts harmful flips: flips where the baseline is right.
    """
    n = len(comparison.margins)
    counted = np.ones(n, dtype=bool)
    if of_right and comparison.is_right is not None:
        counted = comparison.is_right
    is_flip = comparison.is_flip & counted
    margins = comparison.margins[counted]
    model = FlipModel(margins)
    generator = np.random.default_rng(crc32(comparison.name.encode()))
    found: dict[str, list[tuple[float, float, float]]] = {}
    truths = []
    for _ in range(draws):
        drawn = np.zeros(n, dtype=bool)
        drawn[generator.permutation(n)[:pilot]] = True
        others = n - pilot
        flips = int(is_flip[drawn].sum())
        truths.append((is_flip.sum() - flips) / others)
        in_pilot = drawn[counted]
        seen, labels, rest = margins[in_pilot], is_flip[counted][in_pilot], margins[~in_pilot]
        found.setdefault("pilot", []).append(
            (flips / pilot, *exact_interval(flips, pilot, CONFIDENCE_LEVEL))
        )
        shrunk = (flips + prior[0]) / (pilot + sum(prior))
        found.setdefault("shrunk pilot", []).append((shrunk, np.nan, np.nan))
        regressions = dict.fromkeys(("logistic", "isotonic"), labels.mean() * len(rest))
        if 0 < flips < len(labels):
            logistic = LogisticRegression(C=1e4).fit(seen[:, None], labels)
            isotonic = IsotonicRegression(increasing=False, out_of_bounds="clip").fit(seen, labels)
            regressions["logistic"] = logistic.predict_proba(rest[:, None])[:, 1].sum()
            regressions["isotonic"] = isotonic.predict(rest).sum()
        for name, count in regressions.items():
            found.setdefault(name, []).append((count / others, np.nan, np.nan))
        forecast = model.forecast(in_pilot, labels)
        rate, low, high = ((share * len(margins) - flips) / others for share in forecast)
        found.setdefault("forecast", []).append((rate, low, high))
    return {name: _errors(np.array(rows), np.array(truths)) for name, rows in found.items()}


def _errors(rows: FloatArray, truths: FloatArray) -> Errors:
    gap = rows[:, 0] - truths
    has_interval = not np.isnan(rows[:, 1]).any()
    covered = (rows[:, 1] <= truths + 1e-12) & (truths <= rows[:, 2] + 1e-12)
    return Errors(
        rmse=float(np.sqrt((gap**2).mean())),
        mae=float(np.abs(gap).mean()),
        bias=float(gap.mean()),
        coverage=float(covered.mean()) if has_interval else np.nan,
        width=float((rows[:, 2] - rows[:, 1]).mean()),
    )


def beta_prior(rates: FloatArray) -> tuple[float, float]:
    """The beta distribution with the mean and the variance of these rates."""
    mean, variance = rates.mean(), rates.var(ddof=1)
    count = mean * (1 - mean) / variance - 1
    return mean * count, (1 - mean) * count


def rate_of(comparison: Comparison, of_right: bool) -> float:
    """The share of all rows that flip, or that flip and were right."""
    right = comparison.is_right if of_right and comparison.is_right is not None else True
    return float((comparison.is_flip & right).mean())


def print_rows(comparisons: list[Comparison], of_right: bool, draws: int) -> None:
    """Print the errors of every estimate, as means over these comparisons."""
    rates = np.array([rate_of(one, of_right) for one in comparisons])
    priors = [beta_prior(np.delete(rates, index)) for index in range(len(rates))]
    for pilot in PILOTS:
        fitting = [i for i, one in enumerate(comparisons) if len(one.margins) > 2 * pilot]
        errors = [estimates(comparisons[i], pilot, draws, priors[i], of_right) for i in fitting]
        own = np.array([one["pilot"].rmse for one in errors])
        for name in errors[0]:
            rmse = np.array([one[name].rmse for one in errors])

            of_name = [one[name] for one in errors]
            mae, bias, coverage, width = (
                float(np.mean([getattr(one, field) for one in of_name]))
                for field in ("mae", "bias", "coverage", "width")
            )
            interval = "- | -" if np.isnan(coverage) else f"{coverage:.3f} | {100 * width:.1f}"
            print(
                f"| {comparisons[0].source} | {'harmful' if of_right else 'all'} | {pilot} | {name}"
                f" | {100 * rmse.mean():.2f} | {rmse.mean() / own.mean():.2f} | "
                f"{(rmse < own).sum()} of {len(own)} | {(rmse / own).max():.2f} | "
                f"{100 * mae:.2f} | {100 * bias:+.2f} | {interval} |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("PRUNELAKE_DATA", "data")))
    parser.add_argument("--lake", type=Path)
    parser.add_argument("--draws", type=int, default=200)
    arguments = parser.parse_args()
    sources = [[*published_comparisons(arguments.data / "flips")]]
    if arguments.lake:
        sources.append([*level_comparisons(arguments.lake)])
    print(HEAD)
    for comparisons in sources:
        for of_right in (False, True):
            used = [one for one in comparisons if not of_right or one.is_right is not None]
            flipping = [one for one in used if rate_of(one, of_right) > 0]
            print_rows(flipping, of_right, arguments.draws)


if __name__ == "__main__":
    main()
