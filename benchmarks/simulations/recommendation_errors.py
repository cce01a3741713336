"""How often `recommend` recommends a level that is truly worse by the margin.

    python benchmarks/simulations/recommendation_errors.py [--lakes 1000] [--seed 0]
        [--worse accuracy]

Each simulated lake has some removal orders of one model, with one level each. That level is worse
than the unpruned model by exactly the margin in one criterion, and equal to it in the others. The
orders are evaluated on the same examples, so they share a part of each change. The rows of
`metrics` are computed from simulated examples; the view `criteria` and `recommend` do the rest.
Prints a table: the share of lakes in which an order passes at 5 %, and in which `recommend`
recommends an order.
"""

import argparse
import datetime
import json
from collections.abc import Iterator
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

from prunelake.analysis.statistics import tango_interval
from prunelake.lake.sql.view_files import view_statements
from prunelake.recommend.recommendation import recommend
from prunelake.recommend.request import RecommendationRequest
from prunelake.schema.analysis_tables import ANALYSIS_TABLES
from prunelake.schema.run_tables import RUNS
from prunelake.schema.tables import ALL_TABLES
from prunelake.spec import SweepSpec

Row = dict[str, Any]

MARGIN = 0.02
EXAMPLES, EXPLAINED = 1000, 400
WON = 0.02  # share of the examples that the level has right and level 0 has wrong
SPREAD = 0.15  # between examples, of the change of a score
SHARED = 0.3  # share of the variance of a change that the orders have in common
LAKES_AT_ONCE = 25


def lake_rows(
    generator: np.random.Generator, model: str, orders: int, worse: str
) -> tuple[list[Row], list[Row]]:
    """The rows of `runs` and of `metrics` of one lake; the criterion `worse` loses the margin."""
    common = generator.standard_normal((4, EXAMPLES))
    runs, metrics = [], []
    for order in range(orders):
        run_id = f"{model}-{order}"
        runs.append(_run(run_id, model, order))
        own = generator.standard_normal(common.shape)
        changes = np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * own
        luck = ndtr(changes[0])
        lost_share = WON + MARGIN * (worse == "accuracy")
        lost, won = int((luck < lost_share).sum()), int((luck > 1 - WON).sum())
        rows = _accuracy_rows(lost, won)
        for name, change, n in (
            ("ece", 0.1 * changes[1], EXAMPLES),
            ("comprehensiveness", SPREAD * changes[2], EXPLAINED),
            ("sufficiency", SPREAD * changes[3], EXPLAINED),
        ):
            rows.append(_mean_row(name, change[:n] + MARGIN * (worse == name)))
        empty = dict.fromkeys(ANALYSIS_TABLES["metrics"].schema)
        metrics += [empty | row | {"run_id": run_id, "level": 1} for row in rows]
    return runs, metrics


def _run(run_id: str, model: str, order: int) -> Row:
    return dict.fromkeys(RUNS.schema) | {
        "run_id": run_id,
        "created_at": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
        "model": model,
        "revision": "simulated",
        "strategy": f"random:{order}",
        "task": "task",
        "example_count": EXAMPLES,
        "levels": [0, 1],
        "layer_count": 8,
        "removal_order": [order],
        "dtype": "float32",
        "spec": SweepSpec(model=model, task="task").model_dump_json(),
        "identity": json.dumps({"run": run_id}),
    }


def _accuracy_rows(lost: int, won: int) -> list[Row]:
    low, high = tango_interval(lost, won, EXAMPLES, 0.9)
    accuracy = {
        "metric": "accuracy",
        "higher_is_better": True,
        "delta": (won - lost) / EXAMPLES,
        "paired_value": 0.6 + (won - lost) / EXAMPLES,
        "equivalence_low": low,
        "equivalence_high": high,
    }
    flips = (("harmful_flip_rate", lost), ("beneficial_flip_rate", won))
    rates = [{"metric": name, "paired_value": count / EXAMPLES} for name, count in flips]
    return [
        {"method": "", "operator": "", "variant": "", "paired_n": EXAMPLES} | row
        for row in (accuracy, *rates)
    ]


def _mean_row(metric: str, losses: NDArray[np.float64]) -> Row:
    n, loss = len(losses), float(losses.mean())
    error = float(losses.std(ddof=1) / np.sqrt(n))
    half = float(stdtrit(n - 1, 0.95)) * error
    higher_is_better = metric == "comprehensiveness"
    delta = -loss if higher_is_better else loss
    key = ("", "", "") if metric == "ece" else ("kernel_shap", "delete_text", "eraser")
    return dict(zip(("method", "operator", "variant"), key, strict=True)) | {
        "metric": metric,
        "higher_is_better": higher_is_better,
        "delta": delta,
        "delta_se": error,
        "paired_value": 0.5 + delta,
        "equivalence_low": delta - half,
        "equivalence_high": delta + half,
        "paired_n": n,
    }


def outcomes(
    generator: np.random.Generator, lakes: int, orders: int, worse: str
) -> Iterator[tuple[bool, bool]]:
    """For each lake: whether an order passes at 5 %, and whether one is recommended."""
    models = [f"model{number}" for number in range(lakes)]
    for start in range(0, lakes, LAKES_AT_ONCE):
        chosen = models[start : start + LAKES_AT_ONCE]
        drawn = [lake_rows(generator, model, orders, worse) for model in chosen]
        given = {
            "runs": RUNS.frame([row for runs, _ in drawn for row in runs]),
            "metrics": ANALYSIS_TABLES["metrics"].frame(
                [row for _, metrics in drawn for row in metrics]
            ),
        }
        with duckdb.connect() as connection:
            connection.execute("set threads = 1; create schema lake")
            for name, table in ALL_TABLES.items():
                connection.register("given", given.get(name, table.frame([])).to_arrow())
                connection.execute(f"create table lake.{name} as from given")
            for statement in view_statements():
                connection.execute(statement)
            passing = connection.execute(
                "select distinct model from criteria where is_reached and calibrator is null"
            ).fetchall()
            for model in chosen:
                answer = recommend(connection, RecommendationRequest(model=model))
                yield (model,) in passing, answer.as_it_is.level is not None


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lakes", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worse", nargs="+", default=["accuracy", "comprehensiveness"])
    given = parser.parse_args()
    print("| worse by the margin | orders | lakes | an order passes at 5 % | recommended | se |")
    print("|---|---|---|---|---|---|")
    for worse in given.worse:
        for orders in (1, 2, 5):
            generator = np.random.default_rng(given.seed)
            found = np.array(list(outcomes(generator, given.lakes, orders, worse)))
            passing, recommended = found.mean(axis=0)
            error = np.sqrt(0.05 * 0.95 / given.lakes)
            print(
                f"| {worse} | {orders} | {given.lakes} | {passing:.3f} | {recommended:.3f} "
                f"| {error:.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
