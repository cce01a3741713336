import datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import polars as pl
import pytest

from prunelake.api.charts.catalog import CHARTS
from prunelake.api.charts.drawing import formats, house_style
from prunelake.api.charts.drawing.vega_lite import Part
from prunelake.api.charts.pareto import pareto_chart
from prunelake.api.findings.selection import Selection
from prunelake.api.queries import comparisons
from prunelake.errors import NothingToShow
from prunelake.lake.sql import views
from tests.support.api.chart_rows import spec
from tests.support.runs.example_runs import judged_run, published_run
from tests.support.runs.metric_runs import metric_run

NBSP = "\N{NO-BREAK SPACE}"
Values = dict[int, float]


def points(
    accuracy: Values,
    ece: Values | None = None,
    verdicts: dict[tuple[str, int], str] | None = None,
    strategy: str = "cosine",
    layer_count: int | None = 8,
    undominated: tuple[int, ...] = (),
    half_width: float | None = 0.05,
) -> pl.DataFrame:
    """Rows of `queries.pareto` by level; their intervals are `half_width` to both sides."""
    rows = [
        {
            "strategy": strategy,
            "level": level,
            "layer_count": layer_count,
            "remaining_share": 1 - level / layer_count if layer_count else None,
            "metric": metric,
            "value": value,
            "ci_low": value - half_width if half_width else None,
            "ci_high": value + half_width if half_width else None,
            "verdict": (verdicts or {}).get((metric, level)),
            "is_undominated": level in undominated,
        }
        for metric, values in (("accuracy", accuracy), ("ece", ece or {}))
        for level, value in values.items()
    ]
    types = {"remaining_share": pl.Float64, "ci_low": pl.Float64, "ci_high": pl.Float64}
    return pl.DataFrame(rows, schema_overrides=types | {"verdict": pl.String}, orient="row")


ACCURACY, ECE = {0: 0.75, 2: 0.75, 4: 0.5}, {0: 0.125, 2: 0.25, 4: 0.375}
VERDICTS = {
    ("accuracy", 2): "equivalent",
    ("accuracy", 4): "visible degradation",
    ("ece", 2): "hidden degradation",
    ("ece", 4): "visible degradation",
}
FOUND = points(ACCURACY, ECE, VERDICTS, undominated=(2, 4))


def panels(chart: Part) -> list[dict[str, Any]]:
    drawn = spec(chart)
    for panel in drawn["vconcat"]:
        for layer in panel["layer"]:
            layer["rows"] = drawn["datasets"][layer.get("data", panel.get("data"))["name"]]
    return list(drawn["vconcat"])


def layers(panel: dict[str, Any], type: str, **mark: Any) -> list[dict[str, Any]]:
    return [
        layer
        for layer in panel["layer"]
        if layer["mark"]["type"] == type and mark.items() <= layer["mark"].items()
    ]


@pytest.mark.parametrize(
    ("rows", "metric", "title"),
    [
        (
            FOUND,
            "ece",
            f"Accuracy is stable down to 75{NBSP}% of attention layers (cosine order), but ECE is "
            "worse there",
        ),
        (
            FOUND,
            "accuracy",
            f"Accuracy is stable down to 75{NBSP}% of attention layers (cosine order)",
        ),
        (
            points(ACCURACY, ECE, {("accuracy", 2): "inconclusive"}),
            "ece",
            f"No pruned level is shown to keep accuracy: it is 0.75 with 100{NBSP}% of attention "
            f"layers, 0.50 with 50{NBSP}% of attention layers",
        ),
        (
            points(ACCURACY, ECE, half_width=None),
            "ece",
            f"Published accuracy is 0.75 with 100{NBSP}% of attention layers, 0.50 with "
            f"50{NBSP}% of attention layers",
        ),
        (
            points(ACCURACY, ECE, half_width=None, layer_count=None),
            "ece",
            "Published accuracy is 0.75 with 0 attention layers removed, 0.50 with 4 attention "
            "layers removed",
        ),
        # The cheapest stable level of any order.
        (
            pl.concat([FOUND, points({3: 0.7}, {}, {("accuracy", 3): "equivalent"}, "random:0")]),
            "ece",
            f"Accuracy is stable down to 62{NBSP}% of attention layers (random:0 order)",
        ),
    ],
)
def test_the_title_names_the_cheapest_level_with_stable_accuracy(
    rows: pl.DataFrame, metric: str, title: str
) -> None:
    assert house_style.title(pareto_chart(rows, metric)).partition(" (left is cheaper")[0] == title


def test_undominated_points_are_filled_and_on_the_line() -> None:
    for panel, metric in zip(panels(pareto_chart(FOUND, "ece")), ("accuracy", "ece"), strict=True):
        given = FOUND.filter(metric=metric).with_columns(order=pl.lit("cosine order"))
        (line,) = layers(panel, "line")
        assert {row["level"] for row in line["rows"]} == {2, 4}
        assert {row["value"] for row in line["rows"]} <= {*given["value"]}
        (filled,) = layers(panel, "point", filled=True)
        (hollow,) = layers(panel, "point", fill="white")
        assert filled["transform"] == [{"filter": "datum.is_undominated"}]
        assert hollow["transform"] == [{"filter": "!datum.is_undominated"}]
        assert filled["rows"] == hollow["rows"] == given.select(*filled["rows"][0]).to_dicts()
        assert panel["title"]["subtitle"].endswith("2 of 3 undominated")


def test_hidden_degradation_of_the_metric_has_a_diamond_in_both_panels() -> None:
    for panel in panels(pareto_chart(FOUND, "ece")):
        (diamonds,) = layers(panel, "point", shape="diamond")
        assert [row["level"] for row in diamonds["rows"]] == [2]


def test_up_is_better_in_every_panel() -> None:
    axes = [
        layers(panel, "line")[0]["encoding"]["y"]["scale"]["reverse"]
        for panel in panels(pareto_chart(FOUND, "ece"))
    ]
    assert axes == [False, True]


def test_accuracy_by_itself_is_one_panel() -> None:
    assert [p["title"]["text"] for p in panels(pareto_chart(FOUND, "accuracy"))] == ["Accuracy"]


def test_a_metric_without_values_says_so() -> None:
    chart = pareto_chart(points(ACCURACY), "ece")
    assert len(panels(chart)) == 1
    assert "no value of ECE is known" in house_style.title(chart)


@pytest.mark.parametrize("layer_count", [8, None])
def test_the_line_has_the_best_value_of_each_cost(layer_count: int | None) -> None:
    rows = points({0: 0.75, 4: 0.5}, undominated=(0, 4), layer_count=layer_count)
    (panel,) = panels(pareto_chart(rows, "accuracy"))
    (line,) = layers(panel, "line")
    # Left is cheaper on both axes; between two levels, the step uses the cheaper level.
    assert line["encoding"]["x"]["scale"]["reverse"] is (layer_count is None)
    assert line["mark"]["interpolate"] == ("step-after" if layer_count else "step-before")


def test_many_orders_differ_in_colour_and_shape_and_fit_a_phone() -> None:
    names = [f"random:{i}" for i in range(7)]
    rows = pl.concat(points(ACCURACY, ECE, VERDICTS, name) for name in names)
    chart = pareto_chart(rows, "ece")
    (filled,) = layers(panels(chart)[0], "point", filled=True)
    colours, shapes = (
        filled["encoding"][channel]["scale"]["range"] for channel in ("color", "shape")
    )
    looks = {(colours[i % len(colours)], shapes[i % len(shapes)]) for i in range(7)}
    assert len(looks) == 7
    assert (
        200
        < float(ElementTree.fromstring(formats.svg(house_style.vega_lite(chart))).attrib["width"])
        < 380
    )


def test_the_query_has_the_latest_run_of_each_order_and_the_run_itself(tmp_path: Path) -> None:
    def at(day: int) -> dict[str, Any]:
        return {"created_at": datetime.datetime(2026, 1, day, tzinfo=datetime.UTC)}

    run_id = metric_run(tmp_path, "itself", {("accuracy", ""): {0: 0.75, 1: 0.5}}, **at(1))
    metric_run(tmp_path, "later", {("accuracy", ""): {1: 1.0}}, **at(2))
    other = {"strategy": "random:0"}
    metric_run(tmp_path, "older", {("accuracy", ""): {1: 1.0}}, **other, **at(1))
    metric_run(
        tmp_path, "latest", {("accuracy", ""): {1: 0.625}, ("ece", ""): {1: 0.5}}, **other, **at(2)
    )
    metric_run(tmp_path, "task", {("accuracy", ""): {1: 1.0}}, task="t")
    metric_run(tmp_path, "model", {("accuracy", ""): {1: 1.0}}, model="m")
    metric_run(tmp_path, "revision", {("accuracy", ""): {1: 1.0}}, revision="1" * 40)
    with views.connect(tmp_path) as connection:
        rows = comparisons.pareto_points(run_id, "ece").rows(connection)
    columns = ("strategy", "metric", "level", "value", "remaining_share", "is_undominated")
    # Neither the later run of its own order nor the older run of the other order dominates.
    assert rows.select(columns).rows() == [
        ("cosine", "accuracy", 0, 0.75, 1.0, True),
        ("cosine", "accuracy", 1, 0.5, 0.75, False),
        ("random:0", "accuracy", 1, 0.625, 0.75, True),
        ("random:0", "ece", 1, 0.5, 0.75, True),
    ]


def test_a_run_of_a_lake_is_drawn_with_its_verdicts(tmp_path: Path) -> None:
    run_id = judged_run(tmp_path)
    with views.connect(tmp_path) as connection:
        rows = comparisons.pareto_points(run_id, "ece").rows(connection)
    assert house_style.title(pareto_chart(rows, "ece")).startswith(
        f"Accuracy is stable down to 75{NBSP}% of attention layers (cosine order), but ECE is worse"
    )


def test_a_chart_without_data_gives_the_reason(tmp_path: Path) -> None:
    run_id = published_run(tmp_path)
    kind = CHARTS["pareto"]
    with views.connect(tmp_path) as connection:
        subject = Selection({"run_id": run_id}, 0, "mean_confidence")
        rows = kind.query(subject).rows(connection)
        with pytest.raises(NothingToShow, match="mean_confidence has no better direction"):
            kind.chart(rows, subject)
        with pytest.raises(NothingToShow, match="no accuracy of run"):
            kind.chart(
                rows.with_columns(metric=pl.lit("ece")), Selection({"run_id": run_id}, 0, "ece")
            )
