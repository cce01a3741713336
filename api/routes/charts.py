"""GET /charts: each chart by name, as Vega-Lite, HTML, SVG or PNG."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import BaseModel, Field

from prunelake.errors import NotFound

from ..charts import drawing
from ..charts.catalog import CHARTS, ChartDefinition, usermeta
from ..charts.drawing import ChartFormat
from ..findings.selection import load_selection
from ..http.problems import ERROR_RESPONSES
from ..queries.snapshot import Snapshot
from .parameters import RunParameters, SnapshotDependency, reject_repeated_parameters

router = APIRouter(
    responses=ERROR_RESPONSES, tags=["charts"], dependencies=[Depends(reject_repeated_parameters)]
)


class ChartTheme(StrEnum):
    """The colour scheme of a chart."""

    light = "light"
    dark = "dark"


class ChartParameters(RunParameters):
    """The run, level and metric of a chart, and its colour scheme."""

    theme: ChartTheme = Field(default=ChartTheme.light, description="The colour scheme.")


class ChartInfo(BaseModel):
    """A chart and its parameters."""

    name: str = Field(examples=["reliability"])
    caption: str
    candidate_caption: str = Field(description="The caption of its chart of a comparison.")
    takes: list[str] = Field(
        description="The parameters that change the chart, besides the choice of the run."
    )


PAGE_POLICY = (
    "sandbox allow-scripts allow-downloads; default-src 'none'; script-src 'unsafe-inline' "
    "'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:"
)
"""The Content-Security-Policy of an HTML chart: it may run its own scripts, and load nothing."""

CHART_MEDIA_TYPES = {
    ChartFormat.json: "application/json",
    ChartFormat.html: "text/html; charset=utf-8",
    ChartFormat.svg: "image/svg+xml",
    ChartFormat.png: "image/png",
}

DRAWING_POOL = ThreadPoolExecutor(2, "drawer")
"""Charts have their own threads, so that drawing many charts does not block requests for rows."""

CONTENT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The chart in the format of the address.",
        "content": {
            "application/json": {"schema": {"type": "object", "description": "Vega-Lite 6"}},
            "text/html": {"schema": {"type": "string"}},
            "image/svg+xml": {"schema": {"type": "string"}},
            "image/png": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


@router.get("/charts", summary="The charts")
def charts() -> list[ChartInfo]:
    """Every chart by name; GET /charts/{name}.svg draws it."""
    return [
        ChartInfo(
            name=definition.name,
            caption=definition.caption,
            candidate_caption=definition.candidate_caption or definition.caption,
            takes=list(definition.takes),
        )
        for definition in CHARTS.values()
    ]


@router.get(
    "/charts/{name}.{format}",
    summary="A chart",
    response_class=Response,
    responses=CONTENT,
)
async def chart(
    name: Annotated[str, Path(description="A chart.", json_schema_extra={"enum": [*CHARTS]})],
    format: Annotated[ChartFormat, Path(description="The file format.")],
    snapshot: SnapshotDependency,
    asked: Annotated[ChartParameters, Query()],
) -> Response:
    """A chart of the latest run that matches. Its `usermeta` holds its SQL and its snapshot.

    404 with the code `nothing_to_show` if the run lacks the data of the chart.
    """
    definition = CHARTS.get(name)
    if definition is None:
        raise NotFound(f"no chart {name!r}; GET /charts describes them", CHARTS)
    body = await asyncio.get_running_loop().run_in_executor(
        DRAWING_POOL, _answer, definition, format, snapshot, asked
    )
    return Response(body, media_type=CHART_MEDIA_TYPES[format], headers=_headers(format))


def _answer(
    definition: ChartDefinition, format: ChartFormat, snapshot: Snapshot, asked: ChartParameters
) -> bytes:
    selection = load_selection(snapshot, asked.selection_request)
    query = definition.query(selection)
    chart = definition.chart(snapshot.rows(query), selection)
    spec = drawing.vega_lite(chart, asked.theme.value)
    spec["usermeta"] = usermeta(query, snapshot.id)
    return drawing.encode_chart(spec, format)


def _headers(format: ChartFormat) -> dict[str, str]:
    return {"Content-Security-Policy": PAGE_POLICY} if format is ChartFormat.html else {}
