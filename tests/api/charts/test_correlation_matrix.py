import datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import polars as pl
import pytest

from prunelake.api.charts.correlation_matrix import matrix_chart
from prunelake.api.charts.drawing import formats, house_style
from prunelake.api.charts.drawing.vega_lite import Part
from prunelake.api.findings.wording import MINUS
from prunelake.api.queries import comparisons, run_metrics
from prunelake.lake.sql import views
from tests.support.api.chart_rows import spec
from tests.support.runs.example_runs import explained_run, published_run

Cell = tuple[str, str, float | None, float | None, float | None]


def matrix(*cells: Cell) -> pl.DataFrame:
    """Rows of task, metric, Spearman correlation and both ends of its interval."""
    names = ("task", "metric", "spearman", "spearman_low", "spearman_high")
    types = [pl.String, pl.String, pl.Float64, pl.Float64, pl.Float64]
    return pl.DataFrame(list(cells), schema=dict(zip(names, types, strict=True)), orient="row")


def cells_of(chart: Part) -> list[dict[str, Any]]:
    (rows,) = [rows for rows in spec(chart)["datasets"].values() if "coefficient" in rows[0]]
    return list(rows)


def width(chart: Part) -> float:
    return float(ElementTree.fromstring(formats.svg(house_style.vega_lite(chart))).attrib["width"])


TWO = matrix(
    ("a", "ece", -0.95, -1.0, -0.5),
    ("a", "nll", 0.4, -0.2, 0.8),
    ("a", "auroc", 0.5, 0.25, 0.75),
    ("b", "ece", -0.8, -0.9, -0.7),
    ("b", "nll", 0.3, 0.1, 0.7),
    ("b", "auroc", -0.5, -0.75, -0.25),
)


def test_a_cell_has_the_correlation_its_interval_and_whether_it_includes_0() -> None:
    found = {(c["task"], c["metric"]): c for c in cells_of(matrix_chart(TWO))}
    shown = {key: (c["coefficient"], c["interval"], c["is_apart"]) for key, c in found.items()}
    assert shown == {
        ("a", "ECE"): (f"{MINUS}.95", f"{MINUS}1, {MINUS}.50", True),
        ("b", "ECE"): (f"{MINUS}.80", f"{MINUS}.90, {MINUS}.70", True),
        ("a", "NLL"): (".40", f"{MINUS}.20, .80", False),
        ("b", "NLL"): (".30", ".10, .70", True),
        ("a", "AUROC of confidence"): (".50", ".25, .75", True),
        ("b", "AUROC of confidence"): (f"{MINUS}.50", f"{MINUS}.75, {MINUS}.25", True),
    }


def test_cells_whose_interval_includes_0_have_a_dashed_frame() -> None:
    layers = spec(matrix_chart(TWO))["layer"]
    dashed = [layer for layer in layers if "strokeDash" in layer["mark"]]
    assert [layer["transform"] for layer in dashed] == [[{"filter": "datum.is_apart === false"}]]


@pytest.mark.parametrize(
    ("rows", "title"),
    [
        (TWO, f"In both tasks accuracy correlates with ECE (from {MINUS}0.95 to {MINUS}0.80)"),
        (
            TWO.filter(pl.col("metric") != "ece"),
            # AUROC changes its sign; NLL is sure in one task only.
            "No metric is shown to correlate with accuracy in both tasks; AUROC of confidence does "
            "in 1",
        ),
        (
            TWO.filter(pl.col("task") == "a"),
            f"In the only task accuracy correlates with ECE ({MINUS}0.95) and AUROC of confidence "
            "(0.50)",
        ),
        (
            matrix(("a", "nll", 0.1, -0.2, 0.3)),
            "No metric is shown to correlate with accuracy in the only task",
        ),
        # Task b has no explanations, so sufficiency is known in one of two tasks.
        (
            matrix(("a", "sufficiency", 0.9, 0.8, 1.0), ("b", "ece", 0.1, -0.5, 0.5)),
            "No metric is shown to correlate with accuracy in both tasks; sufficiency does in 1",
        ),
        (
            matrix(*((t, "nll", -0.5, None, None) for t in "abc")),
            f"In all 3 tasks accuracy correlates with NLL ({MINUS}0.50)",
        ),
    ],
)
def test_the_title_names_metrics_that_correlate_in_every_task(
    rows: pl.DataFrame, title: str
) -> None:
    assert (
        house_style.title(matrix_chart(rows)).partition(" (small")[0].partition(" (no ")[0] == title
    )


def test_the_title_names_the_strongest_metrics_and_counts_the_rest() -> None:
    names = ("ece", "nll", "brier", "auroc", "aurc")
    rows = matrix(*(("a", name, 0.9 - i / 10, 0.1, 1.0) for i, name in enumerate(names)))
    title = house_style.title(matrix_chart(rows))
    assert "with ECE (0.90), NLL (0.80), Brier score (0.70) and 2 more" in title


def test_a_task_without_any_correlation_keeps_its_column() -> None:
    rows = matrix(("a", "ece", 0.5, 0.1, 0.9), ("b", "ece", None, None, None))
    chart = matrix_chart(rows)
    assert [(c["task"], c["metric"]) for c in cells_of(chart)] == [("a", "ECE")]
    x = spec(chart)["layer"][0]["encoding"]["x"]
    assert x["scale"]["domain"] == ["a", "b"]
    assert "in both tasks" in house_style.title(chart)


@pytest.mark.parametrize("task_count", [1, 6, 7, 13])
def test_any_number_of_tasks_fits_a_phone(task_count: int) -> None:
    tasks = ["rotten_tomatoes", "openbookqa", "arc_challenge", *"defghijklm"][:task_count]
    rows = matrix(*((task, "ece", -0.55, -0.95, -0.25) for task in tasks))
    chart = matrix_chart(rows)
    assert 200 < width(chart) < 380
    bands = spec(chart).get("vconcat", [chart])
    across = [band["layer"][0]["encoding"]["x"]["scale"]["domain"] for band in bands]
    assert [task for band in across for task in band] == sorted(tasks)
    assert max(map(len, across)) <= 5


def test_the_query_has_the_latest_run_of_each_task_and_the_run_itself(tmp_path: Path) -> None:
    def day(number: int) -> datetime.datetime:
        return datetime.datetime(2026, 1, number, tzinfo=datetime.UTC)

    run_id = explained_run(tmp_path, "itself", task="own", created_at=day(1))
    published_run(tmp_path, "later", task="own", strategy="cosine", created_at=day(2))
    published_run(tmp_path, "older", task="other", strategy="cosine", created_at=day(1))
    explained_run(tmp_path, "latest", task="other", created_at=day(2))
    explained_run(tmp_path, "model", task="third", model="m")
    explained_run(tmp_path, "order", task="fourth", strategy="random:0")
    explained_run(tmp_path, "revision", task="fifth", revision="1" * 40)
    with views.connect(tmp_path) as connection:
        rows = comparisons.correlation_matrix(run_id).rows(connection)
        alone = run_metrics.correlations(run_id).rows(connection).filter(scope="all")
    assert set(rows["task"]) == {"own", "other"}
    # The published runs have three metrics, an explained run has more.
    for task in ("own", "other"):
        found = rows.filter(task=task).sort("metric")
        assert found["metric"].to_list() == alone.sort("metric")["metric"].to_list()
        assert found["spearman"].to_list() == alone.sort("metric")["spearman"].to_list()
    assert rows.select("task", "metric").is_unique().all()
