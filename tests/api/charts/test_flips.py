from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import polars as pl
import pytest

from prunelake.api.charts.catalog import CHARTS
from prunelake.api.charts.drawing import formats, house_style
from prunelake.api.charts.drawing.vega_lite import Part
from prunelake.api.charts.flips import KINDS, flips_chart
from prunelake.api.findings.selection import Selection
from prunelake.api.queries import charts
from prunelake.errors import NothingToShow
from prunelake.lake.sql import views
from tests.support.api.chart_rows import spec
from tests.support.runs.example_runs import explained_run, published_run
from tests.support.runs.lake_rows import prediction, run_row, write

NBSP = "\N{NO-BREAK SPACE}"


def flips(**levels: tuple[float, float, float]) -> pl.DataFrame:
    """Harmful, beneficial and neutral rate of `level_<k>`; their sum has 0.03 on both sides."""
    return pl.DataFrame(
        [
            {
                "level": int(name.removeprefix("level_")),
                "harmful_rate": rates[0],
                "beneficial_rate": rates[1],
                "neutral_rate": rates[2],
                "flip_rate": sum(rates),
                "ci_low": sum(rates) - 0.03,
                "ci_high": sum(rates) + 0.03,
                "n": 200,
            }
            for name, rates in levels.items()
        ]
    )


THREE = flips(level_0=(0, 0, 0), level_2=(0.06, 0.03, 0.002), level_4=(0.25, 0, 0.05))


def rows_of(chart: Part, column: str) -> list[dict[str, Any]]:
    datasets = spec(chart)["datasets"].values()
    (rows,) = [rows for rows in datasets if column in rows[0]]
    return list(rows)


@pytest.mark.parametrize(
    ("level", "title"),
    [
        (
            2,
            f"9{NBSP}% of predictions changed at level 2: 6{NBSP}% harmful, 3{NBSP}% beneficial, "
            f"under 1{NBSP}% neutral; 30{NBSP}% at level 4 (line: 95 % interval of all changed "
            f"(6 to 12{NBSP}% at level 2); n = 200)",
        ),
        (
            4,
            f"30{NBSP}% of predictions changed at level 4: 25{NBSP}% harmful, 5{NBSP}% neutral "
            f"(line: 95 % interval of all changed (27 to 33{NBSP}% at level 4); n = 200)",
        ),
    ],
)
def test_the_title_has_the_shares_of_the_level(level: int, title: str) -> None:
    assert house_style.title(flips_chart(THREE, level)) == title


def test_for_level_0_the_title_describes_the_deepest_level() -> None:
    assert house_style.title(flips_chart(THREE, 0)) == house_style.title(flips_chart(THREE, 4))


def test_a_level_that_changes_nothing_says_so() -> None:
    unchanged = flips(level_0=(0, 0, 0), level_2=(0, 0, 0))
    assert house_style.title(flips_chart(unchanged, 2)).startswith(
        "At level 2 no prediction changed ("
    )


def test_bars_are_stacked_harmful_first_and_the_line_is_the_interval_of_the_sum() -> None:
    chart = flips_chart(THREE, 2)
    parts = {
        (row["level"], row["kind"]): (row["position"], row["share"])
        for row in rows_of(chart, "kind")
    }
    harmful, beneficial, neutral = KINDS.values()
    assert parts == {
        (2, harmful): (0, 0.06),
        (2, beneficial): (1, 0.03),
        (2, neutral): (2, 0.002),
        (4, harmful): (0, 0.25),
        (4, neutral): (2, 0.05),
    }
    given = THREE.filter(pl.col("level") > 0).select("level", "ci_low", "ci_high")
    assert rows_of(chart, "ci_low") == given.to_dicts()
    bars, line = spec(chart)["layer"]
    assert bars["encoding"]["x"]["scale"]["domain"] == [0, 2, 4]
    assert (line["encoding"]["y"]["field"], line["encoding"]["y2"]["field"]) == (
        "ci_low",
        "ci_high",
    )


def test_kinds_differ_in_more_than_colour() -> None:
    bars = spec(flips_chart(THREE, 2))["layer"][0]["encoding"]
    looks = list(
        zip(
            bars["fill"]["scale"]["range"],
            bars["stroke"]["scale"]["range"],
            bars["strokeDash"]["scale"]["range"],
            strict=True,
        )
    )
    is_outlined = [fill != stroke for fill, stroke, _ in looks]
    is_dashed = [dash[1] > 0 for _, _, dash in looks]
    assert (is_outlined, is_dashed) == ([False, True, True], [False, False, True])


def test_without_an_interval_there_is_no_line() -> None:
    untold = THREE.with_columns(ci_low=None, ci_high=None).cast({"ci_low": pl.Float64})
    chart = flips_chart(untold, 4)
    assert len(spec(chart)["layer"]) == 1
    assert house_style.title(chart).endswith("5\N{NO-BREAK SPACE}% neutral (n = 200)")
    assert (
        float(ElementTree.fromstring(formats.svg(house_style.vega_lite(chart))).attrib["width"])
        < 380
    )


def test_the_query_has_the_shares_and_the_interval_of_their_sum(tmp_path: Path) -> None:
    run = run_row("run", levels=[0, 1], example_count=8)
    run_id = str(run["run_id"])
    right, wrong, other = [0.0, -1.0, -2.0], [-1.0, 0.0, -2.0], [-1.0, -2.0, 0.0]
    before = [right] * 5 + [wrong] * 3
    after = [right] * 3 + [wrong] * 2 + [right, other, wrong]
    write(
        tmp_path,
        run,
        predictions=[
            prediction(run_id, level, f"test:{i}", values)
            for level, given in enumerate((before, after))
            for i, values in enumerate(given)
        ],
    )
    with views.connect(tmp_path) as connection:
        rows = charts.flips(run_id).rows(connection)
        (interval,) = views.select(
            connection,
            "select ci_low, ci_high from metrics where metric = 'flip_rate' and level = 1",
        ).rows()
    assert rows.drop("ci_low", "ci_high").rows() == [
        (0, 0.0, 0.0, 0.0, 0.0, 8),
        (1, 0.25, 0.125, 0.125, 0.5, 8),
    ]
    assert rows.filter(level=1).select("ci_low", "ci_high").row(0) == interval
    assert interval[0] < 0.5 < interval[1]


def test_a_chart_without_data_gives_the_reason(tmp_path: Path) -> None:
    published = published_run(tmp_path)
    alone = run_row("alone", levels=[0])
    write(
        tmp_path,
        alone,
        predictions=[prediction(str(alone["run_id"]), 0, f"test:{i}", [0.0, -1.0]) for i in (0, 1)],
    )
    for run_id, reason in (
        (published, "has no predictions of single examples, which chart flips needs"),
        (str(alone["run_id"]), "has no pruned level to compare with level 0"),
    ):
        subject = Selection({"run_id": run_id}, 0)
        with views.connect(tmp_path) as connection:
            rows = CHARTS["flips"].query(subject).rows(connection)
        with pytest.raises(NothingToShow, match=reason):
            CHARTS["flips"].chart(rows, subject)


def test_an_explained_run_can_be_drawn(tmp_path: Path) -> None:
    run_id = explained_run(tmp_path)
    with views.connect(tmp_path) as connection:
        rows = charts.flips(run_id).rows(connection)
    # Accuracy falls from 3 of 4 to 2 of 4 at level 2.
    assert house_style.title(flips_chart(rows, 2)).startswith(
        f"25{NBSP}% of predictions changed at level 2: 25{NBSP}% harmful ("
    )
