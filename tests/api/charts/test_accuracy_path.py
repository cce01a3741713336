from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from prunelake.api.charts.accuracy_path import LABEL_SPACING_PX, path_chart
from prunelake.api.charts.drawing import house_style
from prunelake.api.charts.drawing.vega_lite import Part
from prunelake.api.queries import charts
from prunelake.lake.sql import views
from prunelake.lake.sql.bound_query import Connection
from tests.support.api.chart_rows import spec
from tests.support.runs.example_runs import explained_run, published_run

MINUS = "\N{MINUS SIGN}"


def path(
    accuracy: list[float], value: list[float], reach: float | None = 0.05, **columns: Any
) -> pl.DataFrame:
    """Rows of `queries.path`; without `reach` there are no intervals, as in a published table."""
    known, far = reach is not None, reach or 0.0
    rows = [
        {
            "level": level,
            "accuracy": x,
            "accuracy_low": x - far if known else None,
            "accuracy_high": x + far if known else None,
            "accuracy_n": 80 if known else None,
            "value": y,
            "ci_low": y - far if known else None,
            "ci_high": y + far if known else None,
            "n": 80 if known else None,
            "spearman": -0.75,
            "spearman_low": -1.0 if known else None,
            "spearman_high": -0.25 if known else None,
            "level_count": len(accuracy),
            "note": None,
        }
        | columns
        for level, (x, y) in enumerate(zip(accuracy, value, strict=True))
    ]
    numbers = ("accuracy_low", "accuracy_high", "ci_low", "ci_high")
    return pl.DataFrame(rows).cast(dict.fromkeys(numbers, pl.Float64))


FALLING = path([0.75, 0.7, 0.5, 0.25], [0.1, 0.15, 0.2, 0.5])


def rows_with(chart: Part, column: str) -> list[dict[str, Any]]:
    drawn = spec(chart)
    (found,) = (rows for rows in drawn["datasets"].values() if column in rows[0])
    rows: list[dict[str, Any]] = found
    return rows


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    folder: Path = tmp_path_factory.mktemp("lake")
    explained_run(folder, drops={("kernel_shap", "delete_text"): 0.5, ("lime", "replace"): 0.25})
    published_run(folder)
    with views.connect(folder) as connection:
        yield connection


@pytest.mark.parametrize("strategy", ["cosine", ""])
@pytest.mark.parametrize("metric", ["ece", "comprehensiveness"])
def test_the_numbers_equal_the_views(strategy: str, metric: str, connection: Connection) -> None:
    ((run_id,),) = connection.execute(
        "select run_id from runs where strategy = ?", [strategy]
    ).fetchall()
    shown = "kernel_shap" if strategy else "lime"
    told = "'eraser'" if strategy else "null"
    values = {
        name: connection.execute(
            f"""
            select level, value, ci_low, ci_high from metrics
            where
                run_id = ? and metric = ?
                and (method is null or method = ? and variant is not distinct from {told})
            order by level
            """,
            [run_id, name, shown],
        ).fetchall()
        for name in ("accuracy", metric)
    }
    rows = charts.accuracy_path(run_id, metric).rows(connection)
    assert rows.height == (3 if strategy else 5)
    names = ("level", "accuracy", "accuracy_low", "accuracy_high")
    assert rows.select(names).rows() == values["accuracy"]
    assert rows.select("level", "value", "ci_low", "ci_high").rows() == values[metric]
    correlated = connection.execute(
        f"""
        select distinct spearman, spearman_low, spearman_high, level_count, note from correlations
        where
            run_id = ? and metric = ? and scope = 'all'
            and (method is null or method = ? and variant is not distinct from {told})
        """,
        [run_id, metric, shown],
    ).fetchall()
    columns = ("spearman", "spearman_low", "spearman_high", "level_count", "note")
    assert rows.select(columns).unique().rows() == correlated
    points = rows_with(path_chart(rows, metric, 1), "accuracy")
    assert [(p["level"], p["accuracy"], p["value"]) for p in points] == rows.select(
        "level", "accuracy", "value"
    ).rows()


@pytest.mark.parametrize(
    ("columns", "title"),
    [
        ({}, f"ECE rises where accuracy falls: Spearman {MINUS}0.75 over 4 levels (95 % interval "
             f"{MINUS}1.00 to {MINUS}0.25)"),
        ({"spearman": 0.5, "spearman_low": 0.125, "spearman_high": 0.9},
         "ECE falls where accuracy falls: Spearman 0.50 over 4 levels (95 % interval 0.12 to "
         "0.90)"),
        ({"spearman_high": 0.5},
         f"ECE is not shown to correlate with accuracy: Spearman {MINUS}0.75 over 4 levels (95 % "
         f"interval {MINUS}1.00 to 0.50)"),
        ({"spearman_low": None, "spearman_high": None},
         f"ECE rises where accuracy falls: Spearman {MINUS}0.75 over 4 levels (interval not "
         "known)"),
        ({"spearman": None, "note": "constant metric"},
         "No correlation of ECE with accuracy over levels is defined: constant metric"),
    ],
)  # fmt: skip
def test_the_title_has_the_correlation_and_its_interval(columns: Any, title: str) -> None:
    rows = FALLING.with_columns(**{name: pl.lit(value) for name, value in columns.items()})
    assert house_style.title(path_chart(rows, "ece", 2)).startswith(f"{title} (numbers: levels")


@pytest.mark.parametrize(
    ("level", "names"), [(2, ["unpruned", "level 2"]), (0, ["unpruned"]), (9, ["unpruned"])]
)
def test_level_0_and_the_shown_level_are_marked(level: int, names: list[str]) -> None:
    chart = path_chart(FALLING, "ece", level)
    points = rows_with(chart, "accuracy")
    marked = {point["level"]: point["marked"] for point in points if point["marked"]}
    assert list(marked.values()) == names
    assert marked[0] == "unpruned"
    (big,) = (part for part in spec(chart)["layer"] if "shape" in part["encoding"])
    assert big["transform"] == [{"filter": "isValid(datum.marked)"}]
    assert big["encoding"]["shape"]["scale"]["domain"] == names


def test_the_path_goes_through_the_levels_in_their_order() -> None:
    layers = spec(path_chart(FALLING, "ece", 2))["layer"]
    (line,) = (layer for layer in layers if layer["mark"]["type"] == "line")
    assert line["encoding"]["order"]["field"] == "level"
    crosses = [layer["encoding"] for layer in layers if layer["mark"]["type"] == "rule"]
    assert [(cross["y"]["field"], cross["x"]["field"]) for cross in crosses] == [
        ("ci_low", "accuracy"),
        ("value", "accuracy_low"),
    ]


def test_published_values_have_no_crosses() -> None:
    chart = path_chart(path([0.75, 0.5, 0.25], [0.1, 0.2, 0.3], reach=None), "ece", 2)
    layers = spec(chart)["layer"]
    assert "rule" not in {layer["mark"]["type"] for layer in layers}
    assert house_style.title(chart).endswith("published without examples: no intervals)")


def test_a_metric_of_explanations_names_both_counts() -> None:
    title = house_style.title(path_chart(FALLING.with_columns(n=10), "sufficiency", 2))
    assert title.endswith("crosses: 95 % intervals; n = 80, explained: n = 10)")


@pytest.mark.parametrize("step", [0.05, 0.001, 0.0])
def test_labels_leave_room_for_one_another(step: float) -> None:
    rows = path([0.75 - step * i for i in range(16)], [0.1 + step * i for i in range(16)], 0.01)
    chart = path_chart(rows, "ece", 8)
    layers = spec(chart)["layer"]
    (encoding,) = (part["encoding"] for part in layers if part["mark"]["type"] == "line")
    x, y = (encoding[axis]["scale"]["domain"] for axis in "xy")
    px = [house_style.WIDTH / (high - low) for low, high in (x, y)]
    labels = rows_with(chart, "label_x")
    assert labels[0]["level"] == 0
    assert len(labels) == 16 if step == 0.05 else 1 <= len(labels) < 16
    for one, other in combinations(labels, 2):
        right = abs(one["label_x"] - other["label_x"]) * px[0]
        up = abs(one["label_y"] - other["label_y"]) * px[1]
        assert right >= LABEL_SPACING_PX[0] - 1e-6 or up >= LABEL_SPACING_PX[1] - 1e-6
    for label in labels:
        assert x[0] <= label["label_x"] <= x[1]
        assert y[0] <= label["label_y"] <= y[1]
