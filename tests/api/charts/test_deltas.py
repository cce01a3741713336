from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from prunelake.api.charts.deltas import deltas_chart
from prunelake.api.charts.drawing import house_style
from prunelake.api.charts.drawing.verdict_style import legend_label
from prunelake.api.queries import run_metrics
from prunelake.lake.sql import views
from prunelake.lake.sql.bound_query import Connection
from prunelake.schema.metrics import ACCURACY_MARGIN, METRIC_DEFINITIONS
from tests.support.api.chart_rows import spec as valid_spec
from tests.support.runs.example_runs import judged_run, metric_rows

NUMBERS = ["delta", "delta_low", "delta_high", "equivalence_low", "equivalence_high"]
VERDICTS = {
    "accuracy": {1: "equivalent", 2: "equivalent", 4: "visible degradation"},
    "ece": {1: "improved", 2: "hidden degradation", 4: "visible degradation"},
    "nll": {1: "inconclusive", 2: "inconclusive", 4: "inconclusive"},
}
VALUES = {0: 0.5, 1: 0.45, 2: 0.55, 4: 0.75}
LEVELS = metric_rows(
    verdicts=VERDICTS,
    accuracy={0: 0.5, 1: 0.5, 2: 0.5, 4: 0.25},
    ece=VALUES,
    nll=VALUES,
    mean_confidence=VALUES,
    flip_rate={0: 0.0, 1: 0.125, 2: 0.125, 4: 0.25},
)


def spec(metric: str, rows: pl.DataFrame = LEVELS) -> dict[str, Any]:
    return valid_spec(deltas_chart(rows, ["accuracy", metric]))


def layer(panel: dict[str, Any], field: str) -> dict[str, Any]:
    """The layer of a panel whose y is a field."""
    fields = [part["encoding"].get("y", {}).get("field") for part in panel["layer"]]
    found: dict[str, Any] = panel["layer"][fields.index(field)]
    return found


def points(drawn: dict[str, Any], panel: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = drawn["datasets"][
        layer(drawn["vconcat"][panel], "delta")["data"]["name"]
    ]
    return rows


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    folder: Path = tmp_path_factory.mktemp("lake")
    judged_run(folder, n=100)
    with views.connect(folder) as connection:
        yield connection


@pytest.mark.parametrize("metric", ["ece", "nll", "auroc", "mean_confidence"])
def test_the_numbers_equal_the_views(metric: str, connection: Connection) -> None:
    ((run_id,),) = connection.execute("select run_id from runs").fetchall()
    drawn = spec(metric, run_metrics.headline_metrics([run_id]).rows(connection))
    for panel, name in enumerate(("accuracy", metric)):
        expected = connection.execute(
            f"""
            select deltas.level, {", ".join(f"deltas.{number}" for number in NUMBERS)},
                case when starts_with(reason, 'worse') then 'worse' else verdict end
            from deltas
            left join verdicts
                on deltas.level = verdicts.level and deltas.metric = verdicts.metric
            where deltas.metric = '{name}' and deltas.level > 0 and deltas.variant is null
            order by deltas.level
            """
        ).fetchall()
        assert len(expected) == 2
        found = points(drawn, panel)
        assert [tuple(row[n] for n in ["level", *NUMBERS]) for row in found] == [
            row[:-1] for row in expected
        ]
        words = [legend_label(row[-1]) if row[-1] else "not tested" for row in expected]
        assert [row["verdict"] for row in found] == words


@pytest.mark.parametrize("metric", ["ece", "auroc", "mean_confidence", "flip_rate"])
def test_up_is_better_in_every_panel(metric: str) -> None:
    values: dict[str, Any] = {metric: VALUES}
    rows = metric_rows(accuracy=VALUES, **values)
    drawn = spec(metric, rows)
    panel = drawn["vconcat"][1]
    better = METRIC_DEFINITIONS[metric].higher_is_better
    assert layer(panel, "delta")["encoding"]["y"]["scale"]["reverse"] == (better is False)
    sides = {
        part["encoding"]["y"]["value"]: data[0]["side"]
        for part in panel["layer"]
        if (data := drawn["datasets"][part["data"]["name"]]) and "side" in data[0]
    }
    top, bottom = sides[min(sides)], sides[max(sides)]
    if better is None:
        assert (top[2:], bottom[2:]) == ("higher when pruned", "lower when pruned")
    else:
        assert (top[2:], bottom[2:]) == ("pruned better", "unpruned better")
    assert (top[0], bottom[0]) == ("\N{UPWARDS ARROW}", "\N{DOWNWARDS ARROW}")


def test_the_margin_is_shaded_and_both_intervals_are_bars() -> None:
    drawn = spec("ece")
    for panel in drawn["vconcat"]:
        assert drawn["datasets"][layer(panel, "low")["data"]["name"]] == [
            {"low": -ACCURACY_MARGIN, "high": ACCURACY_MARGIN}
        ]
        for low, high in (("delta_low", "delta_high"), ("equivalence_low", "equivalence_high")):
            bar = layer(panel, low)
            assert bar["mark"]["type"] == "rule"
            assert bar["encoding"]["y2"]["field"] == high


@pytest.mark.parametrize(
    ("metric", "clause"),
    [
        ("ece", "ECE is worse at levels 2 and 4 and better at level 1"),
        ("nll", "NLL is inconclusive at every level"),
        ("flip_rate", "flip rate goes from 0.00 to 0.25 at level 4"),
    ],
)
def test_the_title_names_the_verdicts_and_their_levels(metric: str, clause: str) -> None:
    title = house_style.title(deltas_chart(LEVELS, ["accuracy", metric]))
    accuracy = "Accuracy is worse at level 4 and equivalent at levels 1 and 2"
    assert title.startswith(f"{accuracy}; {clause} (")
    assert "n = 80" in title


def test_the_legend_has_a_shape_for_each_verdict_in_the_chart() -> None:
    encoding = layer(spec("ece")["vconcat"][1], "delta")["encoding"]
    domain = encoding["color"]["scale"]["domain"]
    verdicts = ("hidden degradation", "visible degradation", "equivalent", "improved")
    assert domain == [legend_label(verdict) for verdict in verdicts]
    for channel in ("color", "shape"):
        assert encoding[channel]["scale"]["domain"] == domain
        assert len(set(encoding[channel]["scale"]["range"])) == len(domain)
    untested = layer(spec("mean_confidence")["vconcat"][1], "delta")["encoding"]
    assert untested["shape"]["scale"]["domain"][-1] == "not tested"


def test_the_axis_includes_all_intervals_and_margins() -> None:
    # The 90 % interval of accuracy is another kind of interval, and may be wider.
    is_accuracy = pl.col("metric") == "accuracy"
    wide = LEVELS.with_columns(
        pl.when(is_accuracy).then(pl.col("delta") - 0.5).alias("equivalence_low"),
        pl.when(is_accuracy).then(pl.col("delta") + 0.5).alias("equivalence_high"),
    )
    for panel, metric in zip(spec("nll", wide)["vconcat"], ("accuracy", "nll"), strict=True):
        low, high = layer(panel, "delta")["encoding"]["y"]["scale"]["domain"]
        rows = wide.filter(pl.col("level") > 0, metric=metric)
        for number in NUMBERS:
            assert all(low < value < high for value in rows[number].drop_nulls())
        assert low < -ACCURACY_MARGIN < ACCURACY_MARGIN < high


def test_published_values_change_without_intervals_and_verdicts() -> None:
    rows = metric_rows(None, None, accuracy={0: 0.5, 2: 0.25}, ece={0: 0.125, 2: 0.375})
    assert house_style.title(deltas_chart(rows, ["accuracy", "ece"])) == (
        "Accuracy goes from 0.50 to 0.25 at level 2; ECE goes from 0.12 to 0.38 at level 2 "
        "(published without examples: no intervals, no verdicts; shaded: within 0.02 of unpruned)"
    )
    drawn = spec("ece", rows)
    assert [(row["level"], row["delta"]) for row in points(drawn, 1)] == [(2, 0.25)]
