"""The lake behind the tests of the page: two models, three tasks, a published table."""

import datetime
from pathlib import Path
from typing import Any

from prunelake.analysis.analyse import analyse
from prunelake.lake.publish import publish
from tests.support.runs import lake_rows
from tests.support.runs.example_runs import explained_run, judged_run, published_run

ONE_METHOD = {("kernel_shap", "delete_text"): 0.5}
TWO_METHODS = {("kernel_shap", "delete_text"): 0.5, ("lime", "delete_text"): 0.25}

BETA = f"package:{'a_name_without_any_space_' * 3}/beta"
"""A model whose name is wider than a phone."""


def created_on(number: int) -> dict[str, Any]:
    """The creation time of a run; the page opens with the latest run."""
    return {"created_at": datetime.datetime(2026, 1, number, tzinfo=datetime.UTC)}


def flipping_run(lake: Path, name: str, **columns: Any) -> str:
    """A run of three examples at levels 0 and 1: a harmful flip, a beneficial flip, and none.

    Two seeds, which differ, explain the first example.
    """
    run = lake_rows.run_row(name, **{"example_count": 3} | columns)
    run_id = str(run["run_id"])
    no, yes = [-0.5, -1.0], [-1.0, -0.5]
    text = {
        "prompt": "Was it good?\nAnswer:",
        "prompt_tokens": ["Was", " it", " good", "?\n", "Answer", ":"],
        "options": [" no", " yes"],
    }
    return lake_rows.write(
        lake,
        run,
        examples=[lake_rows.example(run_id, f"test:{i}", position=i, **text) for i in range(3)],
        predictions=[
            lake_rows.prediction(run_id, level, f"test:{i}", likelihoods)
            for i, answers in enumerate([(no, yes), (yes, no), (no, no)])
            for level, likelihoods in enumerate(answers)
        ],
        attributions=[
            lake_rows.attribution(
                run_id,
                level,
                "test:0",
                [0.25, -1.0 + seed, 0.5, 0.0, -0.125 * level, 0.0],
                seed=seed,
            )
            for level in (0, 1)
            for seed in (0, 1)
        ],
    )


class PageLake:
    """A published lake, and the ids of its runs."""

    def __init__(self, lake: Path) -> None:
        self.lake = lake
        alpha: dict[str, Any] = {"model": "hub:org/alpha", "task": "questions"}
        self.older = explained_run(lake, "older", ONE_METHOD, **alpha, **created_on(1))
        self.explained = explained_run(lake, "explained", TWO_METHODS, **alpha, **created_on(5))
        self.judged = judged_run(
            lake, "judged", model="hub:org/alpha", task="reviews", **created_on(3)
        )
        self.random = explained_run(
            lake, "random", ONE_METHOD, **alpha, **created_on(2), strategy="random"
        )
        self.beta = explained_run(lake, "beta", model=BETA, task="questions", **created_on(4))
        self.flipping = flipping_run(lake, "flips", model=BETA, task="stories", **created_on(1))
        self.published = published_run(
            lake, "table", model="a table", task="reviews", **created_on(2)
        )
        publish(lake, analyse)
