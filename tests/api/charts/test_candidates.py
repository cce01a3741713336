"""Charts of a comparison: points and bars with labels, and no lines between candidates."""

from collections.abc import Iterator
from typing import Any

import polars as pl
import pytest

from prunelake.api.charts.candidate_points import candidate_size_chart
from prunelake.api.charts.catalog import CHARTS
from prunelake.api.charts.drawing import formats, house_style
from prunelake.api.charts.drawing.level_axis import candidate_axis, level_axis, wrapped
from prunelake.api.charts.levels import levels_chart
from prunelake.api.findings.level_names import LevelNames
from prunelake.api.findings.selection import SelectionRequest, select_with_levels
from prunelake.errors import NothingToShow
from prunelake.lake.sql import views
from prunelake.lake.sql.bound_query import Connection
from tests.support.api.chart_rows import spec
from tests.support.runs.example_runs import explained_run, metric_rows

LABELS = ("base fp16", "int8", "a very long name of a candidate, int4")
NAMES = LevelNames(dict(enumerate(LABELS)), (0, 1, 2))


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    folder = tmp_path_factory.mktemp("lake")
    explained_run(folder, copies=16, labels=LABELS)
    with views.connect(folder) as connection:
        yield connection


SKIPPED = ("mark", "datasets", "config")


def marks(part: Any) -> list[str]:
    """The types of all marks of a spec, without its data."""
    if isinstance(part, list):
        return [mark for member in part for mark in marks(member)]
    if not isinstance(part, dict):
        return []
    own = [part["mark"]["type"]] if "mark" in part else []
    return own + [
        mark for key, member in part.items() if key not in SKIPPED for mark in marks(member)
    ]


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_of_candidates_names_them_and_joins_none(name: str, connection: Connection) -> None:
    selection, _ = select_with_levels(lambda query: query.rows(connection), SelectionRequest())
    rows = CHARTS[name].query(selection).rows(connection)
    if CHARTS[name].not_for_candidates:
        with pytest.raises(NothingToShow, match="compares candidates: "):
            CHARTS[name].chart(rows, selection)
        return
    chart = CHARTS[name].chart(rows, selection)
    spec = house_style.vega_lite(chart)
    # The line of a reliability chart is the diagonal.
    assert marks(spec).count("line") == (name == "reliability")
    assert "area" not in marks(spec)
    picture = formats.svg(spec)
    assert ">int8<" in picture
    assert "pruned" not in picture
    assert "removed" not in picture
    assert "level" not in house_style.title(chart)


def test_a_panel_of_candidates_has_a_place_for_each_and_marks_the_baseline() -> None:
    rows = metric_rows(labels=LABELS, accuracy={0: 0.5, 1: 0.5, 2: 0.25}, ece={0: 0.1, 2: 0.2})
    accuracy, ece = spec(levels_chart(rows, ["accuracy", "ece"]))["vconcat"]
    for panel in (accuracy, ece):
        scales = [layer["encoding"].get("x", {}).get("scale") for layer in panel["layer"]]
        assert [scale for scale in scales if scale] == [{"domain": [0, 1, 2]}] * 3
    assert [layer["mark"].get("shape") for layer in accuracy["layer"]][-2:] == ["square", None]


def test_few_labels_are_wrapped_and_many_are_vertical() -> None:
    few: dict[str, Any] = candidate_axis(NAMES, [0, 1, 2])
    assert few["labelAngle"] == 0
    assert '0: ["base fp16", "(baseline)"]'.replace("0", '"0"', 1) in few["labelExpr"]
    many = LevelNames({level: f"candidate number {level} in nf4" for level in range(12)})
    assert candidate_axis(many, range(12))["labelAngle"] == -90


def test_levels_of_removal_keep_their_axis() -> None:
    names = LevelNames(among=(0, 2))
    x: Any = level_axis(names, [2, 0], nice=False)
    assert (x["title"], x["type"]) == ("removed layers (0 = unpruned)", "quantitative")
    assert x["axis"]["values"] == [0, 2]


@pytest.mark.parametrize(
    ("label", "letters", "max_lines", "lines"),
    [
        ("int8", 10, 4, ["int8"]),
        ("SmolLM2-135M int8", 9, 4, ["SmolLM2-", "135M int8"]),
        ("abcdefghij", 4, 4, ["abcd", "efgh", "ij"]),
        ("a b-c d-e f", 4, 3, ["a b-", "c d-", "e f"]),
        ("abcdefghijklmnop", 3, 3, ["abc", "\N{HORIZONTAL ELLIPSIS}lm", "nop"]),
    ],
)
def test_a_label_is_wrapped(label: str, letters: int, max_lines: int, lines: list[str]) -> None:
    assert wrapped(label, letters, max_lines) == lines


def sizes(*rows: tuple[int, int | None, str, float, str | None]) -> pl.DataFrame:
    columns = ("level", "weight_bytes", "metric", "value", "verdict")
    frame = pl.DataFrame(rows, schema=columns, orient="row", infer_schema_length=None)
    return frame.with_columns(ci_low=pl.lit(None, pl.Float64), ci_high=pl.lit(None, pl.Float64))


def test_the_smallest_candidate_that_keeps_accuracy_is_named() -> None:
    rows = sizes(
        (0, 400, "accuracy", 0.5, None),
        (1, 200, "accuracy", 0.5, "equivalent"),
        (2, 100, "accuracy", 0.4, "visible degradation"),
        (1, 200, "ece", 0.2, "hidden degradation"),
    )
    title = house_style.title(candidate_size_chart(rows, "ece", NAMES))
    assert title == (
        "The smallest candidate that keeps accuracy is int8, with 50\N{NO-BREAK SPACE}% of the "
        "baseline's weights, but its ECE is worse (axes need not start at 0; "
        "left is smaller, up is better)"
    )
    unknown = sizes((0, 400, "accuracy", 0.5, None), (1, None, "accuracy", 0.5, "equivalent"))
    assert house_style.title(candidate_size_chart(unknown, "ece", NAMES)) == (
        "No candidate with a known size is shown to keep accuracy (axes need not start at 0; "
        "left is smaller, up is better "
        "size unknown: int8)"
    )
