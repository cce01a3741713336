"""The map of verdicts: the verdict on a level, and the finding of a run."""

from pathlib import Path
from typing import Any

import pytest

from prunelake.analysis.analyse import analyse
from prunelake.api.findings.level_names import LevelNames
from prunelake.api.findings.verdict_map import level_verdict, run_finding
from prunelake.lake.publish import publish
from tests.support.api.api_client import api_client
from tests.support.runs.example_runs import judged_run, published_run

LABELS = LevelNames({0: "fp16", 1: "int8", 2: "int4"})
NUMBERS = LevelNames(among=(0, 1, 2))


def level(number: int, accuracy: str | None, **found: Any) -> dict[str, Any]:
    """A row of `level_verdicts`."""
    lists: dict[str, list[str]] = {"hidden": [], "worse": []}
    return {"level": number, "accuracy": accuracy, "n": 80, "n_needed": None} | lists | found


@pytest.mark.parametrize(
    ("row", "verdict"),
    [
        (level(1, "equivalent", hidden=["ece"]), "hidden degradation"),
        (level(1, "visible degradation"), "visible degradation"),
        (level(1, "inconclusive", worse=["ece"]), "worse"),
        (level(1, "improved", worse=["nll"]), "worse"),
        (level(1, "equivalent"), "equivalent"),
        (level(1, "inconclusive"), "inconclusive"),
        (level(1, None), None),
    ],
)
def test_a_level_has_its_worst_verdict(row: dict[str, Any], verdict: str | None) -> None:
    assert level_verdict(row) == verdict


def test_a_run_in_a_line_names_its_harmless_level_and_its_first_loss() -> None:
    worse = ["sufficiency", "ece", "nll", "brier"]
    rows = [level(1, "equivalent"), level(2, "equivalent", hidden=worse), level(3, "improved")]
    assert run_finding(rows[:2], NUMBERS) == (
        "Accuracy holds and nothing is shown to be worse at level 1; hidden degradation of ECE, "
        "Brier score and 2 more at level 2"
    )
    assert run_finding(rows, LevelNames({0: "a", 1: "b", 2: "c", 3: "d"})).startswith(
        "Accuracy holds and nothing is shown to be worse for b and d; hidden degradation"
    )
    fallen = [level(1, "inconclusive", worse=["ece"]), level(2, "visible degradation")]
    assert run_finding(fallen, LABELS) == (
        "Worse ECE for int8 while accuracy is inconclusive; accuracy falls for int4"
    )


def test_an_open_run_names_the_price_of_a_verdict() -> None:
    rows = [level(1, "inconclusive", n_needed=1234), level(2, "inconclusive", n_needed=9000)]
    said = run_finding(rows, NUMBERS)
    assert said == "About 1,300 examples would decide accuracy at level 1; it has 80"
    assert run_finding([level(1, None)], NUMBERS) == "Published without examples: no verdicts"


def test_the_map_begins_with_the_finding_and_has_every_run(tmp_path: Path) -> None:
    judged = judged_run(tmp_path, "judged", task="reviews")
    table = published_run(tmp_path, "table", model="a table")
    publish(tmp_path, analyse)
    with api_client(tmp_path) as client:
        found = client.get("/map").json()
    assert found["outline"] == "Hidden degradation in 1 of 2 runs; no verdict in 1"
    first, second = found["runs"]
    assert (first["run_id"], first["levels"]) == (judged, [1, 2])
    assert first["verdicts"] == ["hidden degradation", "visible degradation"]
    assert first["finding"].startswith("Hidden degradation of ECE")
    assert (second["run_id"], second["verdicts"]) == (table, [None] * 4)


def test_a_lake_without_a_verdict_says_what_is_known_of_its_latest_run(tmp_path: Path) -> None:
    published_run(tmp_path, model="a table", task="reviews")
    publish(tmp_path, analyse)
    with api_client(tmp_path) as client:
        outline = client.get("/map").json()["outline"]
    assert outline.startswith("a table, reviews: Published accuracy is 0.75 unpruned")
