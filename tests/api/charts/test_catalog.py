"""Every chart of the catalog: it can be drawn, names the source of its numbers, and fits a page."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args
from xml.etree import ElementTree

import polars as pl
import pytest
from starlette.testclient import TestClient

from prunelake.analysis.analyse import analyse
from prunelake.api.charts.catalog import CHARTS
from prunelake.api.charts.drawing import formats, house_style
from prunelake.api.charts.drawing.formats import ChartFormat
from prunelake.api.charts.drawing.formats import encode_chart as in_format
from prunelake.api.charts.drawing.house_style import Theme
from prunelake.api.charts.drawing.vega_lite import Part
from prunelake.api.findings.selection import (
    RunChoices,
    Selection,
    SelectionRequest,
    find_run,
)
from prunelake.api.queries import run_metrics
from prunelake.errors import NothingToShow
from prunelake.lake.publish import publish
from prunelake.lake.sql import views
from prunelake.lake.sql.bound_query import BoundQuery, Connection
from prunelake.lake.sql.queries_together import rows_of_each
from tests.support.api.api_client import api_client
from tests.support.endurance import IS_ENDURANCE
from tests.support.runs.example_runs import explained_run, published_run
from tests.support.runs.profile_rows import profiled

OF_EXAMPLES = {
    "verdicts",
    "reliability",
    "recalibration",
    "overlap",
    "flips",
    "cost",
    "importance",
}
"""Charts of data that a published table lacks."""

COLOUR = re.compile("#[0-9A-Fa-f]{6}|white|black")


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small explained run, and an older one of a published table."""
    folder = tmp_path_factory.mktemp("lake")
    explained_run(folder, name="explained", copies=16)
    profiled(folder, decode={0: [4.0, 5.0], 1: [3.0, 3.5], 2: [2.0, 2.0]}, removal_order=[2, 1])
    published_run(folder, name="published")
    publish(folder, analyse)
    return folder


@pytest.fixture(scope="module")
def client(lake: Path) -> Iterator[TestClient]:
    with api_client(lake) as client:
        yield client


class Drawing:
    """The charts of a lake, each drawn once."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.levels = cache(self._levels)
        self.chart = cache(self._chart)
        self.spec = cache(self._spec)
        self.picture = cache(self._picture)

    def _levels(self, strategy: str) -> tuple[dict[str, Any], pl.DataFrame]:
        run = find_run(
            lambda query: query.rows(self.connection), SelectionRequest(strategy=strategy)
        )
        return run, run_metrics.headline_metrics([run["run_id"]]).rows(self.connection)

    def subject(
        self, strategy: str = "cosine", level: int | None = None, metric: str | None = None
    ) -> Selection:
        return RunChoices.of(*self.levels(strategy)).selection(level, metric)

    def rows(self, name: str, of: Selection) -> pl.DataFrame:
        return CHARTS[name].query(of).rows(self.connection)

    def _chart(self, name: str, **given: Any) -> Part:
        of = self.subject(**given)
        return CHARTS[name].chart(self.rows(name, of), of)

    def _spec(self, name: str, theme: Theme = "light", **given: Any) -> dict[str, Any]:
        return house_style.vega_lite(self.chart(name, **given), theme)

    def _picture(self, name: str, theme: Theme) -> ElementTree.Element:
        return ElementTree.fromstring(formats.svg(self.spec(name, theme)))


@pytest.fixture(scope="module")
def drawn(lake: Path) -> Iterator[Drawing]:
    with views.connect(lake) as connection:
        yield Drawing(connection)


def colours(part: Any) -> set[str]:
    """The colours of a spec; its data and texts contain none."""
    if isinstance(part, dict):
        return set().union(*(colours(v) for k, v in part.items() if k not in ("datasets", "text")))
    if isinstance(part, list):
        return set().union(*map(colours, part))
    return {part} if isinstance(part, str) and COLOUR.fullmatch(part) else set()


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_is_drawn_in_every_format(name: str, drawn: Drawing) -> None:
    begins = {"json": b"{", "html": b"<!doctype html>", "svg": b"<svg", "png": b"\x89PNG"}
    assert begins.keys() == set(ChartFormat)
    # The short form converts one chart to the formats that take long, and draws the others as SVG.
    is_short = name != "levels" and not IS_ENDURANCE
    for format in (ChartFormat.json, ChartFormat.svg) if is_short else ChartFormat:
        picture = in_format(drawn.spec(name), format)
        assert picture.lstrip().startswith(begins[format])


@pytest.mark.parametrize("name", CHARTS)
def test_the_sql_of_a_chart_gives_its_rows(name: str, client: TestClient, drawn: Drawing) -> None:
    answer = client.get(f"/charts/{name}.json", params={"strategy": "cosine"})
    assert answer.status_code == 200, answer.text
    told = answer.json()["usermeta"]["prunelake"]
    assert told["snapshot"] == client.get("/health").json()["snapshot"]
    rows = drawn.rows(name, drawn.subject())
    assert rows.height
    assert BoundQuery(told["sql"]).rows(drawn.connection).equals(rows)
    assert not {"example_id", "seed", "fraction"} & set(rows.columns)


def test_rows_read_together_are_those_of_each_query(drawn: Drawing) -> None:
    queries = [
        definition.query(drawn.subject(strategy))
        for definition in CHARTS.values()
        for strategy in ("cosine", "")
    ]
    together = rows_of_each(queries, drawn.connection)
    for query, rows in zip(queries, together, strict=True):
        assert rows.equals(query.rows(drawn.connection)), query.sql


@pytest.mark.parametrize("name", CHARTS)
def test_a_published_table_has_the_charts_of_its_values(name: str, drawn: Drawing) -> None:
    if name in OF_EXAMPLES:
        with pytest.raises(NothingToShow, match=drawn.subject(strategy="").run_id):
            drawn.spec(name, strategy="")
    else:
        ElementTree.fromstring(formats.svg(drawn.spec(name, strategy="")))


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_is_as_wide_as_a_phone(name: str, drawn: Drawing) -> None:
    assert 270 < float(drawn.picture(name, "light").attrib["width"]) < 380


@pytest.mark.parametrize("name", CHARTS)
def test_dark_paper_has_the_dark_twin_of_every_colour(name: str, drawn: Drawing) -> None:
    light, dark = colours(drawn.spec(name, "light")), colours(drawn.spec(name, "dark"))
    assert "white" in light
    assert light <= house_style.DARK.keys()
    assert dark == {house_style.DARK[colour] for colour in light}
    assert not dark & {colour for colour, twin in house_style.DARK.items() if colour != twin}


@pytest.mark.parametrize("name", CHARTS)
@pytest.mark.parametrize("theme", get_args(Theme))
def test_no_text_is_left_in_the_black_of_vega(name: str, theme: Theme, drawn: Drawing) -> None:
    texts = drawn.picture(name, theme).iter("{http://www.w3.org/2000/svg}text")
    fills = {text.attrib["fill"] for text in texts}
    assert fills
    assert fills <= (
        house_style.DARK.keys() if theme == "light" else set(house_style.DARK.values())
    )


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_takes_the_parameters_that_change_it(name: str, drawn: Drawing) -> None:
    given = drawn.spec(name, level=1, metric="nll")
    found = {
        "level": drawn.spec(name, level=2, metric="nll") != given,
        "metric": drawn.spec(name, level=1, metric="brier") != given,
    }
    assert {what for what, is_changed in found.items() if is_changed} == set(CHARTS[name].takes)


def test_a_chart_without_its_data_is_an_error(drawn: Drawing) -> None:
    of = drawn.subject(metric="accuracy")
    with pytest.raises(NothingToShow, match=r"does not change accuracy; add metric=ece"):
        CHARTS["recalibration"].chart(drawn.rows("recalibration", drawn.subject()), of)
    few = drawn.rows("recalibration", drawn.subject()).with_columns(
        value=pl.lit(None, dtype=pl.Float64()), note=pl.lit("4 scored rows")
    )
    with pytest.raises(NothingToShow, match="is not recalibrated: 4 scored rows"):
        CHARTS["recalibration"].chart(few, drawn.subject())
    with pytest.raises(NothingToShow, match="a metric other than accuracy"):
        CHARTS["path"].chart(drawn.rows("path", of), of)
    for name in ("levels", "deltas"):
        rows = drawn.rows(name, of).filter(pl.col("metric") != "ece")
        with pytest.raises(NothingToShow, match="ECE"):
            CHARTS[name].chart(rows, drawn.subject())
