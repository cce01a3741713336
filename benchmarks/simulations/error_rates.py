"""The error rates of the analysis: its own functions applied to simulated runs with known truth.

    python benchmarks/simulations/error_rates.py [--share 1.0] [--seed 0]

Prints the tables of docs/statistics.md. `--share 0.1` makes a tenth of the simulations. Every run
is drawn from one distribution. Four options have latent scores, their softmax draws the right
option, and each level adds new noise to the scores. An explained example has a comprehensiveness
and a sufficiency: the sum of a common mean, a part of its own, and new noise at each level. The
tables state what a level changes.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from typing import Any

import duckdb
import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import log_softmax

from prunelake.analysis import statistics
from prunelake.analysis.analyse import ACCURACY_KEY, analyse_examples
from prunelake.analysis.bootstrap import bootstrap_metrics
from prunelake.analysis.correlation import CORRELATION_KINDS, correlations
from prunelake.analysis.example_scores import ExampleScores, MetricKey, build_example_scores
from prunelake.lake.sql.view_files import view_statements
from prunelake.schema.analysis_tables import ANALYSIS_TABLES
from prunelake.schema.run_tables import RUNS
from prunelake.schema.tables import ALL_TABLES

Array = NDArray[np.float64]
Row = dict[str, Any]

REPLICATES = 500  # fewer than an analysis draws: its errors are a little smaller
EXPLAINED = 100
SPREAD, NOISE = 1.5, 0.15  # the spread of latent scores, and of a level's noise
BETWEEN_EXAMPLES_SD, BETWEEN_LEVELS_SD = (
    0.2,
    0.1,
)  # spread of a faithfulness score between examples, and between levels
POPULATION = 400_000
PREDICTED = ("accuracy", "brier", "nll", "mean_confidence")
CELLS: tuple[MetricKey, ...] = (
    *((name, "", "", "") for name in PREDICTED),
    *(
        (name, method, "delete_text", "eraser")
        for name in ("comprehensiveness", "sufficiency")
        for method in ("kernel_shap", "lime")
    ),
)

Change = tuple[float, float]
"""The change of a level: the factor of its latent scores, the loss of its comprehensiveness."""
SAME: Change = (1.0, 0.0)


def simulated_run(
    generator: np.random.Generator, n: int, explained: int, changes: list[Change], scale: float
) -> ExampleScores:
    """A run of level 0, without a change, and one level for each change."""
    latent = SPREAD * generator.standard_normal((n, 4))
    gold = (latent + generator.gumbel(size=latent.shape)).argmax(axis=1)
    own = BETWEEN_EXAMPLES_SD * generator.standard_normal((explained, 4))
    values = np.full((len(changes) + 1, n, len(CELLS)), np.nan)
    for place, (sharpness, loss) in enumerate([SAME, *changes]):
        noisy = latent + NOISE * generator.standard_normal(latent.shape)
        log_p = log_softmax(scale * sharpness * noisy, axis=1)
        p = np.exp(log_p)
        right = log_p[np.arange(n), gold]
        values[place, :, 0] = log_p.argmax(axis=1) == gold
        values[place, :, 1] = (p**2).sum(axis=1) - 2 * np.exp(right) + 1
        values[place, :, 2] = -right
        values[place, :, 3] = p.max(axis=1)
        scores = 0.25 + own + BETWEEN_LEVELS_SD * generator.standard_normal(own.shape)
        values[place, :explained, 4:] = scores - [loss, loss, 0, 0]
    levels = tuple(range(len(changes) + 1))
    names = tuple(f"test:{i}" for i in range(n))
    return build_example_scores(levels, CELLS, values, values[:, :, 3], values[:, :, 0], names)


def verdicts(runs: list[list[Row]]) -> Iterator[list[Row]]:
    """The verdicts on each run's rows of metrics, by the macro `verdicts_at`."""
    metrics = pl.concat(
        ANALYSIS_TABLES["metrics"].frame(
            [
                {k: None if v != v else v for k, v in row.items()} | {"run_id": str(run)}
                for row in rows
            ]
        )
        for run, rows in enumerate(runs)
    )
    about = [dict.fromkeys(RUNS.schema) | {"run_id": str(run)} for run in range(len(runs))]
    with duckdb.connect() as connection:
        connection.execute("create schema lake")
        given = {"metrics": metrics, "runs": RUNS.frame(about)}
        for name, table in ALL_TABLES.items():
            connection.register("given", given.get(name, table.frame([])).to_arrow())
            connection.execute(f"create table lake.{name} as from given")
        for statement in view_statements():
            connection.execute(statement)
        for run in range(len(runs)):
            answer = connection.sql("from verdicts_at(run_ids := [?])", params=[str(run)])
            yield pl.DataFrame(answer.to_arrow_table()).to_dicts()


def null_levels(generator: np.random.Generator, share: float) -> Iterator[str]:
    """Levels that differ from level 0 only by noise."""
    yield "| law | n | runs | levels stable | cells hidden | runs with one | with any change | se |"
    yield "|---|---|---|---|---|---|---|---|"
    below: dict[str, dict[str, list[bool]]] = {}
    for law, scale, n, count in (
        ("calibrated", 1.0, 200, 400),
        ("calibrated", 1.0, 1000, 400),
        ("calibrated", 1.0, 3000, 200),
        ("overconfident", 1.5, 1000, 200),
        ("overconfident", 1.5, 3000, 100),
    ):
        count = max(2, round(count * share))
        runs = simulated(generator, n, [SAME] * 4, scale, count)
        hidden, changed, stable = [], [], []
        for rows in verdicts(runs):
            hidden.append([row["verdict"] == "hidden degradation" for row in rows])
            changed.append(any(is_changed(row) for row in rows))
            stable += [row["is_accuracy_stable"] for row in rows if row["metric"] == "accuracy"]
            for row in (row for row in rows if row["p_value"] is not None):
                of_metric = below.setdefault(row["metric"], {})
                of_metric.setdefault(f"{law}, {n}", []).append(row["p_value"] <= 0.05)
        yield (
            f"| {law} | {n} | {count} | {np.mean(stable):.2f} | {np.mean(hidden):.4f} "
            f"| {np.mean(np.any(hidden, axis=1)):.3f} | {np.mean(changed):.3f} "
            f"| {np.sqrt(0.05 * 0.95 / count):.3f} |"
        )
    yield ""
    laws = list(below["accuracy"])
    yield f"| p at most 0.05 | {' | '.join(laws)} |"
    yield f"|---|{'---|' * len(laws)}"
    for metric, rates in below.items():
        shown = (f"{np.mean(rates[law]):.3f}" if law in rates else "" for law in laws)
        yield f"| {metric} | {' | '.join(shown)} |"


def simulated(
    generator: np.random.Generator, n: int, changes: list[Change], scale: float, count: int
) -> list[list[Row]]:
    """The rows of metrics of `count` runs."""
    runs = (simulated_run(generator, n, EXPLAINED, changes, scale) for _ in range(count))
    return [analyse_examples(run, REPLICATES, seed)[0] for seed, run in enumerate(runs)]


def is_changed(row: Row) -> bool:
    return row["p_adjusted"] is not None and row["p_adjusted"] <= 0.05


PLANTED: dict[str, tuple[Change, tuple[str, ...]]] = {
    "scores x 1.2": ((1.2, 0.0), ("ece", "smooth_ece", "nll", "brier_calibration")),
    "scores x 1.5": ((1.5, 0.0), ("ece", "smooth_ece", "nll", "brier_calibration")),
    "comprehensiveness - 0.02": ((1.0, 0.02), ("comprehensiveness",)),
    "comprehensiveness - 0.05": ((1.0, 0.05), ("comprehensiveness",)),
}


def planted(generator: np.random.Generator, share: float) -> Iterator[str]:
    """Levels that keep their accuracy and lose another metric; coverage on the same runs."""
    changes = [change for change, _ in PLANTED.values()]
    truth = bootstrap_metrics(simulated_run(generator, POPULATION, POPULATION, changes, 1.0), 1, 0)
    covered: dict[tuple[str, str], list[bool]] = {}
    yield (
        "| planted | metric | n | runs | hidden degradation | worse within margin | worse "
        "| se at most |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    sizes = {1000: max(2, round(200 * share)), 3000: max(2, round(100 * share))}
    for n, count in sizes.items():
        runs = simulated(generator, n, changes, 1.0, count)
        found: dict[tuple[int, str], list[tuple[bool, bool, bool]]] = {}
        for rows in verdicts(runs):
            for row in rows:
                is_hidden = row["verdict"] == "hidden degradation"
                is_within = row["verdict"] == "worse within margin"
                is_worse = is_changed(row) and row["verdict"] != "improved"
                found.setdefault((row["level"], row["metric"]), []).append(
                    (is_hidden, is_within, is_worse)
                )
        for level, (name, (_, metrics)) in enumerate(PLANTED.items(), start=1):
            for metric in metrics:
                hidden, within, worse = np.mean(found[level, metric], axis=0)
                yield (
                    f"| {name} | {metric} | {n} | {count} | {hidden:.2f} | {within:.2f} "
                    f"| {worse:.2f} | {np.sqrt(0.25 / count):.2f} |"
                )
        for row in (row for rows in runs for row in rows):
            cell = row["metric"], row["method"], row["operator"], row["variant"]
            value = truth[row["level"]][cell].value
            if row["level"] == 0:
                _cover(covered, row, f"value at level 0, n = {n}", "ci", value)
            elif row["level"] in (1, 2) or row["metric"] == "comprehensiveness":
                delta = value - truth[0][cell].value
                _cover(covered, row, f"value where planted, n = {n}", "ci", value)
                _cover(covered, row, f"delta where planted, n = {n}", "delta", delta)
                if abs(delta) > 0.005 and row["equivalence_low"] == row["equivalence_low"]:
                    ends = -row["equivalence_low"], row["equivalence_high"]
                    key = row["metric"], f"called smaller than it is, n = {n}"
                    covered.setdefault(key, []).append(max(ends) < abs(delta))
    yield ""
    kinds = sorted({kind for _, kind in covered})
    yield f"| 95 % interval of | {' | '.join(kinds)} |"
    yield f"|---|{'---|' * len(kinds)}"
    for metric in dict.fromkeys(metric for metric, _ in covered):
        columns = [covered.get((metric, kind)) for kind in kinds]
        shown = (f"{np.mean(column):.3f}" if column else "" for column in columns)
        yield f"| {metric} | {' | '.join(shown)} |"


def _cover(
    covered: dict[tuple[str, str], list[bool]], row: Row, kind: str, ends: str, value: float
) -> None:
    low, high = row[f"{ends}_low"], row[f"{ends}_high"]
    if low == low:  # not NaN
        covered.setdefault((row["metric"], kind), []).append(low <= value <= high)


def accuracy_at_margin(generator: np.random.Generator, share: float) -> Iterator[str]:
    """Accuracy that truly fell by exactly the margin, and must not be called stable."""
    yield "| won (lost is 0.02 more) | n | runs | called stable | se |"
    yield "|---|---|---|---|---|"
    count = max(2, round(20_000 * share))
    for won in (0.0, 0.01, 0.05):
        for n in (200, 1000, 3000):
            counts = generator.multinomial(n, [won + 0.02, won, 0.98 - 2 * won], count)
            different, times = np.unique(counts[:, :2], axis=0, return_counts=True)
            bounds = [
                statistics.tango_interval(int(x), int(y), n, confidence=0.9) for x, y in different
            ]
            stable = np.array([low > -0.02 and high < 0.02 for low, high in bounds])
            rate = float(stable @ times) / count
            yield f"| {won} | {n} | {count} | {rate:.4f} | {_se(rate, count):.4f} |"


x = np.arange(17) / 16
SHAPES: dict[str, tuple[Array, Array]] = {
    "both fall": (0.6 - 0.2 * x**2, 0.3 - 0.2 * np.sqrt(x)),
    "accuracy nearly flat, metric bends": (0.6 - 0.03 * x**2, 0.3 - 0.2 * np.sin(3 * x)),
    "both swing": (0.6 - 0.05 * np.cos(5 * x), 0.3 + 0.05 * np.sin(9 * x)),
}


def correlated(generator: np.random.Generator, share: float) -> Iterator[str]:
    """Coverage of the intervals of correlations: accuracy against comprehensiveness."""
    kinds = [f"{kind} | width" for kind in CORRELATION_KINDS]
    yield f"| shape | n | runs | {' | '.join(kinds)} |"
    yield f"|---|---|---|{'---|' * (2 * len(kinds))}"
    cells: tuple[MetricKey, ...] = (
        ACCURACY_KEY,
        ("comprehensiveness", "lime", "delete_text", "eraser"),
    )
    for name, (accuracy, metric) in SHAPES.items():
        for n in (200, 2000):
            count = max(2, round(150 * share))
            rows = []
            for seed in range(count):
                values = np.full((17, n, 2), np.nan)
                # A level keeps nine tenths of the draws of level 0.
                kept = generator.random((17, n)) < 0.9
                luck = generator.random((17, n))
                values[:, :, 0] = np.where(kept, luck[0], luck) < accuracy[:, None]
                own = BETWEEN_EXAMPLES_SD * generator.standard_normal(EXPLAINED)
                anew = BETWEEN_LEVELS_SD * generator.standard_normal((17, EXPLAINED))
                values[:, :EXPLAINED, 1] = metric[:, None] + own + anew
                unknown = np.full((17, n), np.nan)
                names = tuple(f"test:{i}" for i in range(n))
                run = build_example_scores(tuple(range(17)), cells, values, unknown, unknown, names)
                rows += [
                    row
                    for row in analyse_examples(run, REPLICATES, seed)[1]
                    if row["metric"] == "comprehensiveness" and row["scope"] == "all"
                ]
            columns = []
            for kind, value in _truth(accuracy, metric).items():
                ends = np.array([(row[f"{kind}_low"], row[f"{kind}_high"]) for row in rows])
                hit = (ends[:, 0] <= value + 1e-9) & (value - 1e-9 <= ends[:, 1])
                columns += [f"{hit.mean():.3f}", f"{np.ptp(ends, axis=1).mean():.2f}"]
            yield f"| {name} | {n} | {count} | {' | '.join(columns)} |"


def _truth(accuracy: Array, metric: Array) -> dict[str, float]:
    found = correlations(np.arange(17.0), accuracy[:, None], metric[:, None])
    return {kind: float(found[kind][0]) for kind in CORRELATION_KINDS}


def speed(generator: np.random.Generator, _share: float) -> Iterator[str]:
    """Time of the statistics of one run: all metrics at 17 levels, 2,000 replicates."""
    run = simulated_run(generator, 3000, EXPLAINED, [SAME] * 16, 1.0)
    wall, cpu = time.perf_counter(), time.process_time()
    analyse_examples(run, replicates=2000, seed=0)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    yield f"3,000 examples x 17 levels x 2,000 replicates: {wall:.1f} s ({cpu:.1f} s of CPU)"


def _se(rate: float, count: int) -> float:
    return float(np.sqrt(rate * (1 - rate) / count))


PARTS: dict[str, Callable[[np.random.Generator, float], Iterator[str]]] = {
    "Changes by chance": null_levels,
    "Planted changes, and coverage": planted,
    "Accuracy fallen by the margin": accuracy_at_margin,
    "Correlations": correlated,
    "Speed": speed,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    given = parser.parse_args()
    for title in given.parts:
        print(f"\n### {title}\n", flush=True)
        for line in PARTS[title](np.random.default_rng(given.seed), given.share):
            print(line, flush=True)


if __name__ == "__main__":
    main()
