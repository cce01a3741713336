"""GET /charts: each chart by name, as Vega-Lite, HTML, SVG or PNG."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import BaseModel, Field

from prunelake.errors import InvalidRequest, NotFound

from ..charts.catalog import CHARTS
from ..charts.definition import ChartDefinition, usermeta
from ..charts.drawing import formats, house_style, pictures
from ..charts.drawing.formats import ChartFormat
from ..findings.selection import load_selection
from ..http.problems import ERROR_RESPONSES
from ..queries.snapshots.snapshot import Snapshot
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
    "sandbox allow-scripts allow-downloads; default-src 'none'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; img-src data: blob:"
)
"""The Content-Security-Policy of an HTML chart: it may run its own scripts, and load nothing."""

CHART_MEDIA_TYPES = {
    ChartFormat.json: "application/json",
    ChartFormat.html: "text/html; charset=utf-8",
    ChartFormat.svg: "image/svg+xml",
    ChartFormat.png: "image/png",
}

THREADS = ThreadPoolExecutor(2, "charts")
"""Charts have their own threads, so that many charts do not block requests for rows."""

CHART_SCHEMAS: dict[ChartFormat, dict[str, Any]] = {
    ChartFormat.json: {"type": "object", "description": "Vega-Lite 6"},
    ChartFormat.html: {"type": "string"},
    ChartFormat.svg: {"type": "string"},
    ChartFormat.png: {"type": "string", "format": "binary"},
}

ChartName = Annotated[str, Path(description="A chart.", json_schema_extra={"enum": [*CHARTS]})]


@router.get("/charts", operation_id="list_charts", summary="The charts")
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


def chart_endpoint(format: ChartFormat) -> Callable[..., Coroutine[Any, Any, Response]]:
    """The endpoint of charts in one format."""

    async def chart(
        name: ChartName, snapshot: SnapshotDependency, asked: Annotated[ChartParameters, Query()]
    ) -> Response:
        """A chart of the latest run that matches. Its `usermeta` holds its SQL and its snapshot.

        404 with the code `nothing_to_show` if the run lacks the data of the chart.
        """
        definition = CHARTS.get(name)
        if definition is None:
            raise NotFound(f"no chart {name!r}; GET /charts describes them", CHARTS)
        loop = asyncio.get_running_loop()
        body = await loop.run_in_executor(THREADS, _answer, definition, format, snapshot, asked)
        match format:
            case ChartFormat.svg:
                body = await pictures.POOL.picture(body, "svg")
            case ChartFormat.png:
                body = await pictures.POOL.picture(body, "png")
        return Response(body, media_type=CHART_MEDIA_TYPES[format], headers=_headers(format))

    return chart


# An operation has one format, so that generated clients know the type of its answer.
for chart_format in ChartFormat:
    router.add_api_route(
        f"/charts/{{name}}.{chart_format}",
        chart_endpoint(chart_format),
        summary=f"A chart as {chart_format}",
        operation_id=f"chart_{chart_format}",
        response_class=Response,
        responses={
            200: {
                "description": "The chart.",
                "content": {
                    CHART_MEDIA_TYPES[chart_format].partition(";")[0]: {
                        "schema": CHART_SCHEMAS[chart_format]
                    }
                },
            }
        },
    )


@router.get("/charts/{name}.{format}", include_in_schema=False)
def unknown_format(name: str, format: str) -> Response:
    """422 with the names of the formats, of which each has its own route."""
    raise InvalidRequest(f"no format {format!r} of chart {name!r}", ChartFormat.__members__)


def _answer(
    definition: ChartDefinition, format: ChartFormat, snapshot: Snapshot, asked: ChartParameters
) -> bytes:
    """The chart as JSON, or as HTML."""
    selection = load_selection(snapshot, asked.selection_request)

    def spec() -> dict[str, Any]:
        query = definition.query(selection)
        chart = definition.chart(snapshot.kept_rows(query), selection)
        drawn = house_style.vega_lite(chart, asked.theme.value)
        return drawn | {"usermeta": usermeta(query, snapshot.id)}

    # Other parameters do not change the chart.
    taken = (getattr(selection, name) for name in definition.takes)
    key = (definition.name, selection.run_id, asked.theme, *taken)
    kept: dict[str, Any] = snapshot.kept_results.get(key, spec)
    return formats.encode_chart(kept, format if format is ChartFormat.html else ChartFormat.json)


def _headers(format: ChartFormat) -> dict[str, str]:
    return {"Content-Security-Policy": PAGE_POLICY} if format is ChartFormat.html else {}
