from typing import Any

import pytest

from prunelake.api.charts.drawing import house_style
from prunelake.api.charts.drawing.vega_lite import Part
from prunelake.api.charts.levels import CONFIDENCE_PANELS, levels_chart
from prunelake.api.findings.wording import label
from prunelake.schema.metrics import METRIC_DEFINITIONS
from tests.support.api.chart_rows import spec
from tests.support.runs.example_runs import metric_rows

ACCURACY = {0: 0.5, 1: 0.5, 2: 0.25, 5: 0.125}
VERDICTS = {"accuracy": {1: "equivalent", 2: "visible degradation", 5: "visible degradation"}}


def panels(chart: Part) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = spec(chart)["vconcat"]
    return found


def test_every_metric_has_a_label_of_its_own_and_a_unit() -> None:
    labels = [definition.label for definition in METRIC_DEFINITIONS.values()]
    assert len(set(labels)) == len(METRIC_DEFINITIONS)
    assert all(labels)
    assert all(definition.unit for definition in METRIC_DEFINITIONS.values())


@pytest.mark.parametrize("metric", [name for name in METRIC_DEFINITIONS if name != "accuracy"])
def test_any_metric_can_be_drawn_below_accuracy(metric: str) -> None:
    values: dict[str, Any] = {metric: {0: 0.25, 5: 0.75}}
    rows = metric_rows(verdicts=VERDICTS, accuracy=ACCURACY, **values)
    chart = levels_chart(rows, ["accuracy", metric])
    name = label(metric)[:1].upper() + label(metric)[1:]
    titles = [panel["title"] for panel in panels(chart)]
    assert [title["text"] for title in titles] == ["Accuracy", name]
    subtitle = titles[1]["subtitle"]
    better = METRIC_DEFINITIONS[metric].higher_is_better
    assert subtitle.startswith(METRIC_DEFINITIONS[metric].unit)
    assert ("higher is better" in subtitle) == (better is True)
    assert ("lower is better" in subtitle) == (better is False)
    change = f"; {label(metric)} goes from 0.25 to 0.75 at level 5 ("
    assert house_style.title(chart).startswith(f"Accuracy is stable at level 1{change}")


def test_the_title_of_a_judged_metric_names_its_verdicts() -> None:
    verdicts = VERDICTS | {"nll": {1: "hidden degradation", 2: "visible degradation"}}
    rows = metric_rows(verdicts=verdicts, accuracy=ACCURACY, nll={0: 0.5, 1: 1.0, 2: 2.0, 5: 3.0})
    assert house_style.title(levels_chart(rows, ["accuracy", "nll"])) == (
        "Accuracy is stable at level 1; NLL is worse there (band: 95 % interval; n = 80; "
        "dotted: unpruned, upright: level 1; axes need not start at 0)"
    )


def test_accuracy_alone_is_one_panel() -> None:
    chart = levels_chart(metric_rows(accuracy=ACCURACY), ["accuracy"])
    assert [panel["title"]["text"] for panel in panels(chart)] == ["Accuracy"]


def test_every_level_has_a_tick_in_every_panel() -> None:
    rows = metric_rows(verdicts=VERDICTS, accuracy=ACCURACY, ece=ACCURACY, nll=ACCURACY)
    for panel in panels(levels_chart(rows, CONFIDENCE_PANELS)):
        # Vega-Lite merges the axes of layers that share one: each has to know the levels.
        axes = [x["axis"] for layer in panel["layer"] if (x := layer["encoding"].get("x"))]
        assert axes
        assert all(axis["values"] == [0, 1, 2, 5] for axis in axes if axis)
        assert all(axes)
