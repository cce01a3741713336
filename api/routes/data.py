"""GET /views, /models and /health: rows of views, models with their runs, the server."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from prunelake.errors import InvalidRequest, LimitExceeded
from prunelake.schema.row_formats import MEDIA_TYPES, RowFormat, encode_rows, to_json

from ..findings.run_findings import KIND_DESCRIPTION, LABELS_DESCRIPTION, LevelKind
from ..findings.wording import model_name
from ..http.negotiation import chosen_format
from ..http.problems import ERROR_RESPONSES
from ..queries import runs as run_queries
from ..queries.snapshots.snapshot import Snapshot
from ..queries.views.stored_rows import StoredPage, stored_page
from ..queries.views.view_catalog import View, all_views, filter_names, view_named
from ..queries.views.view_rows import DEFAULT_LIMIT, RowPage, row_page
from ..settings import ApiSettings
from .parameters import SnapshotDependency, settings_of, snapshot_of
from .view_openapi import (
    FILE_FORMATS,
    ROW_RESPONSE_HEADERS,
    file_content,
    file_parameters,
    media_type,
    view_content,
    view_parameters,
)

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


@router.get(
    "/health", operation_id="get_health", summary="The version and the snapshot", tags=["server"]
)
def health(request: Request, snapshot: SnapshotDependency) -> Health:
    """The version of PruneLake, and the snapshot behind all other answers."""
    return Health(
        status="ok",
        version=request.app.version,
        snapshot=snapshot.id,
        published_at=snapshot.created_at,
        run_count=snapshot.run_count,
    )


@router.get("/views", operation_id="list_views", summary="The views", tags=["data"])
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


@router.get("/models", operation_id="list_models", summary="Models and their runs", tags=["data"])
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


@dataclass(frozen=True)
class RowRequest:
    """A page of a view in a format; `is_negotiated` by the header Accept.

    `is_whole`: the answer must have all rows that match.
    """

    page: RowPage
    stored: StoredPage | None
    format: RowFormat
    is_negotiated: bool
    is_whole: bool


async def view_response(
    view: View, request: Request, file_format: RowFormat | None = None
) -> Response:
    """One page of a view in the requested format, or its rows as a file of `file_format`.

    FastAPI's dependencies would take as long as a page of rows in memory, so it has none.

    Raises:
        InvalidRequest, OutdatedCursor: as `view_rows.row_page`; an unknown format.
        LimitExceeded: more than `max_bytes`, or a file without `limit` of more than `max_rows`.
    """
    snapshot, settings = await snapshot_of(request), await settings_of(request)
    asked = _row_request(view, request, snapshot, settings, file_format)
    if asked.stored is not None and asked.stored.is_in_memory(snapshot):
        # Faster than the wait for a thread.
        return _answer(asked, request, snapshot, settings)
    return await run_in_threadpool(_answer, asked, request, snapshot, settings)


def _row_request(
    view: View,
    request: Request,
    snapshot: Snapshot,
    settings: ApiSettings,
    file_format: RowFormat | None,
) -> RowRequest:
    parameters = request.query_params
    format, is_negotiated = file_format, False
    if format is None:
        format, is_negotiated = chosen_format(
            parameters.get("format"), request.headers.get("accept", "")
        )
    elif "format" in parameters:
        raise InvalidRequest(f"the address names the format, {format}; leave out format")
    default_limit = DEFAULT_LIMIT if file_format is None else settings.max_rows
    page = row_page(view, parameters.multi_items(), snapshot.id, settings.max_rows, default_limit)
    if page.is_for_spreadsheet and format is not RowFormat.csv:
        raise InvalidRequest(f"spreadsheet=true is for csv, not for {format}")
    is_whole = file_format is not None and "limit" not in parameters
    return RowRequest(page, stored_page(page), format, is_negotiated, is_whole)


def _answer(
    asked: RowRequest, request: Request, snapshot: Snapshot, settings: ApiSettings
) -> Response:
    page, format = asked.page, asked.format
    if format is RowFormat.json and asked.stored:
        texts = asked.stored.json(snapshot)
        row_count, body = len(texts), b"[" + b",".join(texts[: page.limit]) + b"]"
    elif format is RowFormat.json:
        records = snapshot.records(page.query)
        row_count, body = len(records), to_json(records[: page.limit])
    else:
        rows = asked.stored.rows(snapshot) if asked.stored else snapshot.rows(page.query)
        row_count = rows.height
        body = encode_rows(rows.head(page.limit), format, page.is_for_spreadsheet)
    if asked.is_whole and page.has_more(row_count):
        # A reader of a file would miss the rows without notice.
        raise LimitExceeded(
            f"{page.view.name} has more than {settings.max_rows:,} such rows; filter them, or set "
            "limit and follow the header Link"
        )
    cursor = page.next_cursor(snapshot.id, row_count)
    if len(body) > settings.max_bytes:
        raise LimitExceeded(
            f"the answer has {len(body):,} bytes, and {settings.max_bytes:,} are allowed; set "
            f"limit below {page.limit}, and get the other rows by cursor"
        )
    headers = {}
    if asked.is_negotiated:
        headers["PruneLake-Format"] = format.value
    if cursor is not None:
        next_url = request.url.include_query_params(cursor=cursor)
        headers["Link"] = f'<{next_url.path}?{next_url.query}>; rel="next"'
    if format is RowFormat.json:
        head = to_json({"view": page.view.name, "snapshot": snapshot.id, "next": cursor})
        body = head[:-1] + b',"rows":' + body + b"}"
    return Response(body, headers=headers, media_type=MEDIA_TYPES[format])


def view_endpoint(view: View) -> Callable[..., Coroutine[Any, Any, Response]]:
    """The endpoint of one view."""

    async def rows(request: Request) -> Response:
        return await view_response(view, request)

    return rows


def file_endpoint(format: RowFormat) -> Callable[..., Coroutine[Any, Any, Response]]:
    """The endpoint of the files of one format."""

    async def file(
        name: Annotated[
            str, Path(description="A view.", json_schema_extra={"enum": [*all_views()]})
        ],
        request: Request,
    ) -> Response:
        return await view_response(view_named(name), request, format)

    return file


@router.get("/views/{name}", include_in_schema=False)
async def unknown_view(name: str, request: Request) -> Response:
    """404 with the names of the views; each existing view has a route of its own."""
    return await view_response(view_named(name), request)


def view_router() -> APIRouter:
    """One route for each view, so that the OpenAPI lists its columns and filters, and files."""
    views_router = APIRouter(responses=ERROR_RESPONSES)
    routes = {f"/views/{view.name}": (f"read_{view.name}", view) for view in all_views().values()}
    routes |= {f"/{name}": (name, view_named(name)) for name in ("correlations", "verdicts")}
    for path, (operation_id, view) in routes.items():
        views_router.add_api_route(
            path,
            view_endpoint(view),
            tags=["data"],
            summary=f"Rows of {view.name}",
            description=view.comment,
            operation_id=operation_id,
            response_class=Response,
            responses={
                200: {
                    "description": "One page of rows.",
                    "content": view_content(view),
                    "headers": ROW_RESPONSE_HEADERS,
                }
            },
            openapi_extra={"parameters": view_parameters(view)},
        )
    for format in FILE_FORMATS:
        views_router.add_api_route(
            f"/views/{{name}}.{format}",
            file_endpoint(format),
            tags=["files"],
            summary=f"Rows of a view as a file: {format}",
            description="All rows, or `limit` rows; the filters are those of GET /views/{name}.",
            operation_id=f"download_{format}",
            response_class=Response,
            responses={
                200: {
                    "description": "The file.",
                    "content": {media_type(format): file_content(format)},
                    "headers": ROW_RESPONSE_HEADERS,
                }
            },
            openapi_extra={"parameters": file_parameters(format)},
        )
    return views_router
