"""GET /views, /models and /health: rows of views, models with their runs, the server."""

from collections.abc import Callable
from datetime import datetime

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from prunelake.errors import LimitExceeded
from prunelake.schema.row_formats import MEDIA_TYPES, RowFormat, encode_rows, to_json

from ..findings.run_findings import KIND_DESCRIPTION, LABELS_DESCRIPTION, LevelKind
from ..findings.wording import model_name
from ..http.negotiation import chosen_format
from ..http.problems import ERROR_RESPONSES
from ..queries import runs as run_queries
from ..queries.snapshot import Snapshot
from ..queries.view_rows import View, all_views, filter_names, row_page, view_named
from ..settings import ApiSettings
from .parameters import SettingsDependency, SnapshotDependency
from .view_openapi import ROW_RESPONSE_HEADERS, view_content, view_parameters

router = APIRouter(responses=ERROR_RESPONSES)


class Health(BaseModel):
    """The state of the server."""

    status: str = Field(examples=["ok"])
    version: str = Field(description="The version of PruneLake.", examples=["0.1.0"])
    snapshot: str = Field(description="Id of the served snapshot.", examples=["3f2a9c0d1e4b5a67"])
    published_at: datetime
    run_count: int


class ViewInfo(BaseModel):
    """A view, its columns and its filters."""

    name: str = Field(examples=["verdicts"])
    comment: str = Field(description="The grain and the meaning of a row.")
    columns: dict[str, str] = Field(
        description="Each column's type.", examples=[{"level": "integer", "verdict": "varchar"}]
    )
    filters: list[str] = Field(description="The URL parameters that filter it.")


class RunInfo(BaseModel):
    """One run: a sweep of one model on one task, or a comparison of candidates with it."""

    run_id: str
    task: str
    strategy: str
    levels: list[int] = Field(
        description="The numbers of removed layers, or of candidates; 0 is the baseline."
    )
    kind: LevelKind = Field(description=KIND_DESCRIPTION)
    labels: list[str] = Field(description=LABELS_DESCRIPTION)
    example_count: int | None
    explained_by: str | None = Field(description="The method of its headline explanation.")
    dtype: str | None
    created_at: datetime


class ModelInfo(BaseModel):
    """One model with its runs, the latest first."""

    model: str = Field(description="The whole reference.")
    name: str = Field(
        description="The last part of the reference.", examples=["SmolLM2-360M-Instruct"]
    )
    revision: str
    architecture: str | None
    layer_count: int | None = Field(description="The number of its layers.")
    runs: list[RunInfo]


@router.get("/health", summary="The version and the snapshot", tags=["server"])
def health(request: Request, snapshot: SnapshotDependency) -> Health:
    """The version of PruneLake, and the snapshot behind all other answers."""
    return Health(
        status="ok",
        version=request.app.version,
        snapshot=snapshot.id,
        published_at=snapshot.created_at,
        run_count=snapshot.run_count,
    )


@router.get("/views", summary="The views", tags=["data"])
def views() -> list[ViewInfo]:
    """Every view with its columns, and the filters that GET /views/{name} takes."""
    return [
        ViewInfo(
            name=view.name,
            comment=view.comment,
            columns=dict(view.columns),
            filters=filter_names(view),
        )
        for view in all_views().values()
    ]


@router.get("/models", summary="Models and their runs", tags=["data"])
def models(snapshot: SnapshotDependency) -> list[ModelInfo]:
    """Every model with its runs; other addresses take the run ids."""
    rows = snapshot.records(run_queries.model_runs())
    by_revision: dict[tuple[str, str], ModelInfo] = {}
    for row in rows:
        key = row["model"], row["revision"]
        if key not in by_revision:
            by_revision[key] = ModelInfo(**row, name=model_name(row["model"]), runs=[])
        by_revision[key].runs.append(RunInfo(**row))
    return list(by_revision.values())


def view_response(
    view: View, request: Request, snapshot: Snapshot, settings: ApiSettings
) -> Response:
    """One page of a view in the requested format.

    Raises:
        InvalidRequest, OutdatedCursor: as `view_rows.row_page`.
        LimitExceeded: a page of more than `max_bytes`.
    """
    parameters = request.query_params
    page = row_page(view, parameters.multi_items(), snapshot.id, settings.max_rows)
    format, is_negotiated = chosen_format(
        parameters.get("format"), request.headers.get("accept", "")
    )
    if format is RowFormat.json:
        records = snapshot.records(page.query)
        row_count, body = len(records), to_json(records[: page.limit])
    else:
        rows = snapshot.rows(page.query)
        row_count, body = rows.height, encode_rows(rows.head(page.limit), format)
    cursor = page.next_cursor(snapshot.id, row_count)
    if len(body) > settings.max_bytes:
        raise LimitExceeded(
            f"the answer has {len(body):,} bytes, and {settings.max_bytes:,} are allowed; set "
            f"limit below {page.limit}, and get the other rows by cursor"
        )
    headers = {}
    if is_negotiated:
        headers["PruneLake-Format"] = format.value
    if cursor is not None:
        next_url = request.url.include_query_params(cursor=cursor)
        headers["Link"] = f'<{next_url.path}?{next_url.query}>; rel="next"'
    if format is RowFormat.json:
        head = to_json({"view": view.name, "snapshot": snapshot.id, "next": cursor})
        body = head[:-1] + b',"rows":' + body + b"}"
    return Response(body, headers=headers, media_type=MEDIA_TYPES[format])


def view_endpoint(view: View) -> Callable[..., Response]:
    """The endpoint of one view."""

    def rows(
        request: Request, snapshot: SnapshotDependency, settings: SettingsDependency
    ) -> Response:
        return view_response(view, request, snapshot, settings)

    return rows


@router.get("/views/{name}", include_in_schema=False)
def unknown_view(
    name: str, request: Request, snapshot: SnapshotDependency, settings: SettingsDependency
) -> Response:
    """404 with the names of the views; each existing view has a route of its own."""
    return view_response(view_named(name), request, snapshot, settings)


def view_router(max_rows: int) -> APIRouter:
    """One route for each view, so that the OpenAPI lists its columns, filters and `max_rows`."""
    views_router = APIRouter(responses=ERROR_RESPONSES)
    paths = {f"/views/{view.name}": view for view in all_views().values()}
    paths |= {f"/{name}": view_named(name) for name in ("correlations", "verdicts")}
    for path, view in paths.items():
        views_router.add_api_route(
            path,
            view_endpoint(view),
            tags=["data"],
            summary=f"Rows of {view.name}",
            description=view.comment,
            operation_id=path.strip("/").replace("/", "_"),
            response_class=Response,
            responses={
                200: {
                    "description": "One page of rows.",
                    "content": view_content(view),
                    "headers": ROW_RESPONSE_HEADERS,
                }
            },
            openapi_extra={"parameters": list(view_parameters(view, max_rows))},
        )
    return views_router
