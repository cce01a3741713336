"""The cost of each removal strategy's search in forward tokens, relative to a cosine order.

    PRUNELAKE_DATA=data python benchmarks/search_costs.py arc_easy
    python benchmarks/search_costs.py                               # a bundled task

The unit is the cost of a cosine order and of the evaluation of 100 rows at its levels, without
explanations. If a task has too few rows for both, fewer rows are evaluated, and the cost is scaled
up.
"""

import argparse

from prunelake.evaluation.predictions import predict
from prunelake.inference.nested import NestedModel
from prunelake.models.loading import load_model
from prunelake.settings import Settings
from prunelake.spec import Rows, Strategy, SweepSpec
from prunelake.strategies.removal_order import removal_order
from prunelake.strategy_spec import DEFAULT_SEARCH_ROWS, strategies_that
from prunelake.sweeps.plan import SweepPlan, plan_sweep

LAYER_STRATEGIES = strategies_that(lambda known: known.orders_layers)
ROWS, BUNDLED_ROWS = 100, 80


def planned(task: str, rows: int, depth: int, strategy: str) -> SweepPlan:
    spec = SweepSpec(
        task=task,
        rows=Rows(sample=rows),
        levels=tuple(range(depth + 1)),
        strategy=Strategy.model_validate(strategy),
        explain=None,
    )
    return plan_sweep(spec, Settings())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", nargs="?", default="everyday_knowledge")
    parser.add_argument("--depth", type=int, default=15)
    parser.add_argument("--strategies", default=",".join(LAYER_STRATEGIES))
    asked = parser.parse_args()
    is_bundled = asked.task in ("everyday_knowledge", "opinions")
    rows = BUNDLED_ROWS - DEFAULT_SEARCH_ROWS if is_bundled else ROWS
    work = planned(asked.task, rows, asked.depth, "cosine")
    model = load_model(work.source).model
    cosine = removal_order(model, work.spec.strategy, work.calibration_windows)
    evaluated = NestedModel(model, cosine.layers)
    predict(evaluated, "run", work.examples, work.levels)
    unit = cosine.forward_tokens + evaluated.forward_tokens * ROWS / rows
    print(f"cosine order and its evaluation on {ROWS} rows of {asked.task}: {unit:,.0f}\n")
    print("| strategy | forward tokens | to a `cosine` order and its evaluation |\n|---|---:|---:|")
    for label in asked.strategies.split(","):
        work = planned(asked.task, rows, asked.depth, label)
        order = removal_order(
            model,
            work.spec.strategy,
            work.calibration_windows,
            work.search_examples,
            depth=asked.depth,
        )
        share = order.forward_tokens / unit
        print(f"| `{label}` | {order.forward_tokens:,.0f} | {share:.1f} |", flush=True)


if __name__ == "__main__":
    main()
