"""Charts by name: as Vega-Lite, as a page, and as pictures."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from prunelake.errors import NotFound
from prunelake.schema.row_formats import to_json

from ..charts import drawing
from ..charts.catalog import CHARTS, ChartDefinition, usermeta
from ..findings.selection import Selection, checked_selection, find_run
from ..http.problems import ERROR_RESPONSES
from ..queries import run_metrics
from ..queries.snapshot import Snapshot
from .data import SnapshotDependency, reject_repeated_parameters

router = APIRouter(
    responses=ERROR_RESPONSES, tags=["charts"], dependencies=[Depends(reject_repeated_parameters)]
)


class ChartFormat(StrEnum):
    """How a chart is drawn."""

    json = "json"
    html = "html"
    svg = "svg"
    png = "png"


class ChartTheme(StrEnum):
    """The paper a chart is drawn for."""

    light = "light"
    dark = "dark"


class RunParameters(BaseModel):
    """Which run an answer is about: the latest one that fits all that is given."""

    model_config = ConfigDict(extra="forbid")

    run_id: str | None = Field(
        default=None, description="A run; GET /models lists them.", examples=["c53497babcb1c053"]
    )
    model: str | None = Field(
        default=None,
        description="The whole reference of a model, or the last part of it.",
        examples=["SmolLM2-360M-Instruct"],
    )
    task: str | None = Field(default=None, description="Its task.", examples=["arc_easy"])
    strategy: str | None = Field(
        default=None, description="What ordered the layers.", examples=["cosine"]
    )
    level: int | None = Field(
        default=None,
        description="What to set beside the unpruned model; the deepest stable level by default.",
        examples=[4],
    )
    metric: str | None = Field(
        default=None, description="A metric of the run; ece by default.", examples=["nll"]
    )


class ChartParameters(RunParameters):
    """Which chart, on which paper."""

    theme: ChartTheme = Field(default=ChartTheme.light, description="The paper it is drawn for.")


class ChartInfo(BaseModel):
    """What a chart shows."""

    name: str = Field(examples=["reliability"])
    caption: str
    takes: list[str] = Field(description="Parameters beside the run that change it.")


PAGE_POLICY = (
    "sandbox allow-scripts allow-downloads; default-src 'none'; script-src 'unsafe-inline' "
    "'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:"
)
"""A chart's own page holds its scripts; shut off from all else, it may run them."""

CHART_MEDIA_TYPES = {
    ChartFormat.json: "application/json",
    ChartFormat.html: "text/html; charset=utf-8",
    ChartFormat.svg: "image/svg+xml",
    ChartFormat.png: "image/png",
}

DRAWING_POOL = ThreadPoolExecutor(2, "drawer")
"""Threads of their own: a page of charts must not take all those that answer with rows."""

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
        ChartInfo(name=kind.name, caption=kind.caption, takes=list(kind.takes))
        for kind in CHARTS.values()
    ]


@router.get(
    "/charts/{name}.{format}",
    summary="A chart",
    response_class=Response,
    responses=CONTENT,
)
async def chart(
    name: Annotated[str, Path(description="A chart.", json_schema_extra={"enum": [*CHARTS]})],
    format: Annotated[ChartFormat, Path(description="How it is encode_chart.")],
    snapshot: SnapshotDependency,
    asked: Annotated[ChartParameters, Query()],
) -> Response:
    """A chart of the latest run that fits. Its `usermeta` has the SQL behind it, and the snapshot.

    404 with the code `nothing_to_show` where the run lacks what the chart shows.
    """
    kind = CHARTS.get(name)
    if kind is None:
        raise NotFound(f"no chart {name!r}; GET /charts describes them", CHARTS)
    body = await asyncio.get_running_loop().run_in_executor(
        DRAWING_POOL, _answer, kind, format, snapshot, asked
    )
    return Response(body, media_type=CHART_MEDIA_TYPES[format], headers=_headers(format))


def _answer(
    kind: ChartDefinition, format: ChartFormat, snapshot: Snapshot, asked: ChartParameters
) -> bytes:
    with snapshot.cursor() as connection:
        query = kind.query(subject := selection_for(connection, asked))
        rows = query.rows(connection)
    spec = drawing.vega_lite(kind.chart(rows, subject), asked.theme.value)
    spec["usermeta"] = usermeta(query, snapshot.id)
    return encode_chart(spec, format)


def selection_for(connection: Any, asked: RunParameters) -> Selection:
    """The run, level and metric that a request names."""
    run = find_run(connection, asked.run_id, asked.model, asked.task, asked.strategy)
    levels = run_metrics.headline_metrics([run["run_id"]]).rows(connection)
    return checked_selection(run, levels, asked.level, asked.metric)


def encode_chart(spec: dict[str, Any], format: ChartFormat) -> bytes:
    """A Vega-Lite chart in a format."""
    match format:
        case ChartFormat.json:
            return to_json(spec)
        case ChartFormat.html:
            return drawing.html_page(spec).encode()
        case ChartFormat.svg:
            return drawing.svg(spec).encode()
        case ChartFormat.png:
            return drawing.png(spec)


def _headers(format: ChartFormat) -> dict[str, str]:
    return {"Content-Security-Policy": PAGE_POLICY} if format is ChartFormat.html else {}
