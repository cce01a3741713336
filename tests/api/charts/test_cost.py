from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import polars as pl
import pytest

from prunelake.api.charts.catalog import CHARTS
from prunelake.api.charts.cost import cost_chart
from prunelake.api.charts.drawing import formats, house_style
from prunelake.api.charts.drawing.vega_lite import Part
from prunelake.api.findings.selection import Selection
from prunelake.api.queries import charts
from prunelake.errors import NothingToShow
from prunelake.lake.sql import views
from tests.support.api.chart_rows import spec
from tests.support.runs.example_runs import explained_run
from tests.support.runs.profile_rows import DAY, profiled

NBSP = "\N{NO-BREAK SPACE}"
DECODE = {0: [4.0, 5.0, 6.0], 1: [4.0, 4.0, 5.0], 2: [2.0, 2.5, 2.0]}


def asked(lake: Path, run_id: str) -> pl.DataFrame:
    with views.connect(lake) as connection:
        return charts.efficiency(run_id).rows(connection)


@pytest.fixture
def costs(tmp_path: Path) -> pl.DataFrame:
    """The costs of levels 0 to 2: at level 2, 80 % of the weights and half of the cache remain."""
    run_id = explained_run(tmp_path)
    profiled(tmp_path, decode=DECODE, removal_order=[2, 1])
    return asked(tmp_path, run_id)


def panels(chart: Part) -> list[dict[str, Any]]:
    drawn = spec(chart)
    for panel in drawn["vconcat"]:
        for layer in panel["layer"]:
            layer["rows"] = drawn["datasets"][layer.get("data", panel.get("data"))["name"]]
    return list(drawn["vconcat"])


@pytest.mark.parametrize(
    ("level", "found"),
    [
        (1, f"At level 1 decoding is 1.20 times as fast (1.00 to 1.25), with 90{NBSP}% of the "),
        (2, f"At level 2 decoding is 2.00 times as fast (2.00 to 3.00), with 80{NBSP}% of the "),
    ],
)
def test_the_title_states_the_savings_of_the_level(
    level: int, found: str, costs: pl.DataFrame
) -> None:
    left = {1: 75, 2: 50}[level]
    notes = (
        "(bars: least to greatest of 3 repeats batch 2, 100 prompt and 10 new tokens, float32, a "
        "CPU, 1 thread; dotted: as unpruned; axes need not start at 0)"
    )
    title = house_style.title(cost_chart(costs, level))
    assert title == f"{found}weights and {left}{NBSP}% of the KV cache {notes}"


@pytest.mark.parametrize("level", [0, 7])
def test_for_level_0_or_a_level_without_profile_the_title_describes_the_deepest_level(
    level: int, costs: pl.DataFrame
) -> None:
    assert house_style.title(cost_chart(costs, level)) == house_style.title(cost_chart(costs, 2))


def test_speeds_have_their_range_and_memory_its_shares(costs: pl.DataFrame) -> None:
    speeds, memory = panels(cost_chart(costs, 2))
    unpruned, line, range_, points = speeds["layer"]
    assert unpruned["rows"] == [{"value": 1.0}]
    assert (range_["encoding"]["y"]["field"], range_["encoding"]["y2"]["field"]) == ("low", "high")
    found = {
        (row["quantity"], row["level"]): (row["low"], row["value"], row["high"])
        for row in points["rows"]
    }
    assert found == {
        (quantity, level): reach
        for quantity in ("decoding", "prefill")
        for level, reach in ((0, (1, 1, 1)), (1, (1, 1.2, 1.25)), (2, (2, 2, 3)))
    }
    assert line["rows"] == points["rows"]
    shares = {(row["quantity"], row["level"]): row["value"] for row in memory["layer"][-1]["rows"]}
    assert shares == {
        **{("weights", level): 1 - level / 10 for level in (0, 1, 2)},
        **{("KV cache", level): 1 - level / 4 for level in (0, 1, 2)},
        **{("peak memory", level): 1 - level / 10 for level in (0, 1, 2)},
    }


def test_lines_differ_in_more_than_colour(costs: pl.DataFrame) -> None:
    for panel in panels(cost_chart(costs, 2)):
        encoding = panel["layer"][-1]["encoding"]
        names = encoding["color"]["scale"]["domain"]
        assert len(set(encoding["color"]["scale"]["range"])) == len(names)
        assert len(set(encoding["shape"]["scale"]["range"])) >= len(names)


def test_unknown_costs_are_left_out(costs: pl.DataFrame) -> None:
    nothing = pl.lit(None, pl.Float64)
    partly = costs.with_columns(kv_share=nothing, memory_share=nothing, repeats=pl.lit(1, pl.Int32))
    chart = cost_chart(partly, 2)
    told = house_style.title(chart)
    assert f"with 80{NBSP}% of the weights (batch 2" in told
    memory = panels(chart)[1]
    assert {row["quantity"] for row in memory["layer"][-1]["rows"]} == {"weights"}
    assert (
        float(ElementTree.fromstring(formats.svg(house_style.vega_lite(chart))).attrib["width"])
        < 380
    )


def test_the_query_reads_the_device_that_was_profiled_last(tmp_path: Path) -> None:
    run_id = explained_run(tmp_path)
    later = DAY.replace(day=9)
    profiled(tmp_path, "new", DECODE, removal_order=[2, 1], created_at=later, device_name="new")
    profiled(tmp_path, "old", DECODE, removal_order=[2, 1], device_name="old")
    rows = asked(tmp_path, run_id)
    assert rows["device"].to_list() == ["new"] * 3
    assert rows["level"].to_list() == [0, 1, 2]
    (row,) = rows.filter(level=2).to_dicts()
    assert (row["decode_speedup_low"], row["decode_speedup"], row["repeats"]) == (2.0, 2.0, 3)
    assert (row["batch"], row["prompt_tokens"], row["new_tokens"]) == (2, 100, 10)


@pytest.mark.parametrize(
    ("decode", "reason"),
    [
        (None, r"has no measured cost \(prunelake profile measures it\), which chart cost needs"),
        ({0: [1.0]}, "no pruned level of run .* was profiled"),
    ],
)
def test_a_chart_without_data_gives_the_reason(
    tmp_path: Path, decode: dict[int, list[float]] | None, reason: str
) -> None:
    run_id = explained_run(tmp_path)
    if decode:
        profiled(tmp_path, decode=decode, removal_order=[2, 1])
    rows = asked(tmp_path, run_id)
    with pytest.raises(NothingToShow, match=reason):
        CHARTS["cost"].chart(rows, Selection({"run_id": run_id}, 0))
