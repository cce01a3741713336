"""The map of verdicts: the verdict on a level, and the finding of a run."""

from pathlib import Path
from typing import Any

import duckdb
import pytest

from prunelake.analysis.analyse import analyse
from prunelake.api.findings.level_rows import JUDGED_METRICS
from prunelake.api.findings.verdict_map import run_finding
from prunelake.api.queries.verdict_map import run_verdicts
from prunelake.lake.publish import publish
from tests.support.api.api_client import api_client
from tests.support.runs.example_runs import judged_run, published_run

WORSE = ["sufficiency", "ece", "nll", "brier"]
OPEN = ("inconclusive", 80, 1234)


def mapped(*levels: dict[str, Any], labels: tuple[str, ...] = ()) -> dict[str, Any]:
    """The row of a run whose levels from 1 on have these verdicts by metric.

    The verdict on a metric is a text, or a text with `paired_n` and `n_needed`.
    """
    rows = []
    for level, verdicts in enumerate(levels, 1):
        for metric, said in verdicts.items():
            verdict, n, needed = said if isinstance(said, tuple) else (said, 80, None)
            rows.append(("run", level, metric, verdict, n, needed, True))
    with duckdb.connect() as lake:
        lake.execute(
            "create table headline_metrics (run_id text, level int, metric text, "
            "shown_verdict text, paired_n int, n_needed int, is_judged bool)"
        )
        lake.executemany("insert into headline_metrics values (?, ?, ?, ?, ?, ?, ?)", rows)
        lake.execute("create table runs (run_id text, levels int[], created_at timestamp)")
        lake.execute("insert into runs values ('run', ?, now()::timestamp)", [[0, 1, 2]])
        lake.execute("create table levels (run_id text, level int, label text, kind text)")
        for level, label in enumerate(labels):
            lake.execute("insert into levels values ('run', ?, ?, 'candidate')", [level, label])
        (row,) = run_verdicts(JUDGED_METRICS).records(lake)
    return row


@pytest.mark.parametrize(
    ("verdicts", "worst"),
    [
        ({"accuracy": "equivalent", "ece": "hidden degradation"}, "hidden degradation"),
        ({"accuracy": "visible degradation", "ece": "equivalent"}, "visible degradation"),
        ({"accuracy": "inconclusive", "ece": "worse"}, "worse"),
        ({"accuracy": "improved", "nll": "worse"}, "worse"),
        ({"accuracy": "equivalent", "ece": "inconclusive"}, "equivalent"),
        ({"accuracy": "inconclusive"}, "inconclusive"),
        ({"ece": None}, None),
        ({"accuracy": "equivalent", "aurc": "worse"}, "equivalent"),  # the map lacks this metric
    ],
)
def test_a_level_has_its_worst_verdict(verdicts: dict[str, Any], worst: str | None) -> None:
    assert mapped(verdicts)["verdicts"] == [worst]


def test_a_run_in_a_line_names_its_harmless_level_and_its_first_loss() -> None:
    lost = {"accuracy": "equivalent"} | dict.fromkeys(WORSE, "hidden degradation")
    assert run_finding(mapped({"accuracy": "equivalent"}, lost)) == (
        "Accuracy holds and nothing is shown to be worse at level 1; hidden degradation of ECE, "
        "Brier score and 2 more at level 2"
    )
    improved = mapped({"accuracy": "equivalent"}, {"accuracy": "improved"}, labels=("a", "b", "c"))
    assert run_finding(improved) == ("Accuracy holds and nothing is shown to be worse for b and c")
    fallen = {"accuracy": "inconclusive", "ece": "worse"}, {"accuracy": "visible degradation"}
    assert run_finding(mapped(*fallen, labels=("fp16", "int8", "int4"))) == (
        "Worse ECE for int8 while accuracy is inconclusive; accuracy falls for int4"
    )


def test_an_open_run_names_the_price_of_a_verdict() -> None:
    said = run_finding(mapped({"accuracy": OPEN}, {"accuracy": ("inconclusive", 80, 9000)}))
    assert said == "About 1,300 examples would decide accuracy at level 1; it has 80"
    assert run_finding(mapped({"ece": None})) == "Published without examples: no verdicts"


def test_the_map_begins_with_the_finding_and_has_every_run(tmp_path: Path) -> None:
    judged = judged_run(tmp_path, "judged", task="reviews")
    table = published_run(tmp_path, "table", model="a table")
    publish(tmp_path, analyse)
    with api_client(tmp_path) as client:
        found = client.get("/map").json()
    assert found["outline"] == "2 runs: 1 with hidden degradation; 1 without a verdict"
    first, second = found["runs"]
    assert (first["run_id"], first["levels"]) == (judged, [1, 2])
    assert first["verdicts"] == ["hidden degradation", "visible degradation"]
    assert first["finding"].startswith("Hidden degradation of ECE")
    assert (second["run_id"], second["verdicts"]) == (table, [None] * 4)


def test_a_lake_without_a_verdict_describes_its_latest_run(tmp_path: Path) -> None:
    published_run(tmp_path, model="a table", task="reviews")
    publish(tmp_path, analyse)
    with api_client(tmp_path) as client:
        outline = client.get("/map").json()["outline"]
    assert outline.startswith("a table, reviews: Published accuracy is 0.75 unpruned")
