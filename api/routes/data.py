"""Rows: every view by name, models with their runs, and the state of the server."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, Field

from prunelake.errors import InvalidRequest, LimitExceeded
from prunelake.schema.row_formats import MEDIA_TYPES, RowFormat, encode_rows, to_json

from ..findings.wording import model_name
from ..http.negotiation import chosen_format
from ..http.problems import ERROR_RESPONSES
from ..queries import runs as run_queries
from ..queries.snapshot import Snapshot
from ..queries.view_rows import (
    DEFAULT_LIMIT,
    SQL_OPERATORS,
    View,
    all_views,
    filter_names,
    row_page,
    view_named,
)
from ..settings import ApiSettings

router = APIRouter(responses=ERROR_RESPONSES)


# Not async, each of these would wait for a thread.
async def snapshot_of(request: Request) -> Snapshot:
    """The snapshot that a request is answered from."""
    snapshot: Snapshot = request.state.snapshot
    return snapshot


async def settings_of(request: Request) -> ApiSettings:
    """The settings of the server."""
    settings: ApiSettings = request.app.state.settings
    return settings


async def reject_repeated_parameters(request: Request) -> None:
    """Refuse a parameter that is given twice: one of its values would be passed over."""
    for name in request.query_params:
        if len(request.query_params.getlist(name)) > 1:
            raise InvalidRequest(f"{name} is given twice")


SnapshotDependency = Annotated[Snapshot, Depends(snapshot_of)]
SettingsDependency = Annotated[ApiSettings, Depends(settings_of)]


class Health(BaseModel):
    """The state of the server."""

    status: str = Field(examples=["ok"])
    version: str = Field(description="Of PruneLake.", examples=["0.1.0"])
    snapshot: str = Field(description="Id of what is served.", examples=["3f2a9c0d1e4b5a67"])
    published_at: datetime
    run_count: int


class ViewInfo(BaseModel):
    """What a view is."""

    name: str = Field(examples=["verdicts"])
    comment: str = Field(description="What one row is, and what it means.")
    columns: dict[str, str] = Field(
        description="Each column's type.", examples=[{"level": "integer", "verdict": "varchar"}]
    )
    filters: list[str] = Field(description="The URL parameters that filter it.")


class RunInfo(BaseModel):
    """One run: a sweep of one model on one task."""

    run_id: str
    task: str
    strategy: str
    levels: list[int] = Field(description="How many layers were removed.")
    example_count: int | None
    explained_by: str | None = Field(description="The method of its headline explanation.")
    dtype: str | None
    created_at: datetime


class ModelInfo(BaseModel):
    """One model with its runs, the latest first."""

    model: str = Field(description="The whole reference.")
    name: str = Field(description="Its last part.", examples=["SmolLM2-360M-Instruct"])
    revision: str
    architecture: str | None
    layer_count: int | None = Field(description="Its layers.")
    runs: list[RunInfo]


@router.get("/health", summary="What is served", tags=["server"])
def health(request: Request, snapshot: SnapshotDependency) -> Health:
    """The version, and the snapshot that all other answers come from."""
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
    """Every model, its runs and what each run has; the run ids serve all other addresses."""
    rows = snapshot.records(run_queries.model_runs())
    found: dict[tuple[str, str], ModelInfo] = {}
    for row in rows:
        key = row["model"], row["revision"]
        if key not in found:
            found[key] = ModelInfo(**row, name=model_name(row["model"]), runs=[])
        found[key].runs.append(RunInfo(**row))
    return list(found.values())


def view_response(
    view: View, request: Request, snapshot: Snapshot, settings: ApiSettings
) -> Response:
    """One page of a view in the format that was asked for."""
    parameters = request.query_params
    wanted = row_page(view, parameters.multi_items(), snapshot.id, settings.max_rows)
    format, is_negotiated = chosen_format(
        parameters.get("format"), request.headers.get("accept", "")
    )
    if format is RowFormat.json:
        records = snapshot.records(wanted.query)
        row_count, body = len(records), to_json(records[: wanted.limit])
    else:
        rows = snapshot.rows(wanted.query)
        row_count, body = rows.height, encode_rows(rows.head(wanted.limit), format)
    cursor = wanted.next_cursor(snapshot.id, row_count)
    if len(body) > settings.max_bytes:
        raise LimitExceeded(
            f"{len(body):,} bytes are more than the {settings.max_bytes:,} of an answer; ask for "
            f"less than limit={wanted.limit}, and for the rest by cursor"
        )
    headers = {}
    if is_negotiated:
        headers["PruneLake-Format"] = format.value
    if cursor is not None:
        following = request.url.include_query_params(cursor=cursor)
        headers["Link"] = f'<{following.path}?{following.query}>; rel="next"'
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
    """Says which views there are; those that exist have routes of their own."""
    return view_response(view_named(name), request, snapshot, settings)


def view_router(max_rows: int) -> APIRouter:
    """A route for each view, so that the OpenAPI tells its columns, filters and `max_rows`."""
    found = APIRouter(responses=ERROR_RESPONSES)
    paths = {f"/views/{view.name}": view for view in all_views().values()}
    paths |= {f"/{name}": view_named(name) for name in ("correlations", "verdicts")}
    for path, view in paths.items():
        found.add_api_route(
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
                    "content": _content(view),
                    "headers": ROW_RESPONSE_HEADERS,
                }
            },
            openapi_extra={"parameters": list(_parameters(view, max_rows))},
        )
    return found


JSON_TYPES: dict[str, dict[str, Any]] = {
    "varchar": {"type": "string"},
    "boolean": {"type": "boolean"},
    "integer": {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1},
    "bigint": {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
    "double": {"type": "number"},
    "float": {"type": "number"},
    "timestamp with time zone": {"type": "string", "format": "date-time"},
}


ROW_RESPONSE_HEADERS = {
    "ETag": {
        "description": "The snapshot's id; send it as If-None-Match.",
        "required": True,
        "schema": {"type": "string"},
    },
    "PruneLake-Snapshot": {
        "description": "The snapshot's id.",
        "required": True,
        "schema": {"type": "string"},
    },
    "Link": {
        "description": 'The next page, with rel="next"; absent on the last.',
        "schema": {"type": "string"},
    },
}


def _schema(kind: str) -> dict[str, Any]:
    if kind.endswith("[]"):
        return {"type": ["array", "null"], "items": _schema(kind[:-2])}
    known = JSON_TYPES[kind]
    return known | {"type": [known["type"], "null"]}


def _content(view: View) -> dict[str, Any]:
    row = {
        "type": "object",
        "properties": {name: _schema(kind) for name, kind in view.columns.items()},
        "required": list(view.columns),
        "additionalProperties": False,
    }
    answer = {
        "type": "object",
        "properties": {
            "view": {"type": "string", "const": view.name},
            "snapshot": {"type": "string", "description": "Id of the snapshot."},
            "next": {
                "type": ["string", "null"],
                "description": "The cursor of the next page; null on the last.",
            },
            "rows": {"type": "array", "items": row},
        },
        "required": ["view", "snapshot", "next", "rows"],
        "additionalProperties": False,
    }
    binary = {"schema": {"type": "string", "format": "binary"}}
    content: dict[str, Any] = {"application/json": {"schema": answer}}
    content["text/csv"] = {"schema": {"type": "string"}}
    others = (RowFormat.ndjson, RowFormat.parquet, RowFormat.arrow)
    return content | {MEDIA_TYPES[format]: binary for format in others}


def _parameters(view: View, max_rows: int) -> Any:
    def parameter(name: str, schema: dict[str, Any], description: str, **more: Any) -> Any:
        found = {"name": name, "in": "query", "required": False, "schema": schema}
        return found | {"description": description} | more

    filterable = dict.fromkeys(view.run_columns, "varchar") | {
        name: kind for name, kind in view.columns.items() if kind in JSON_TYPES
    }
    for name, kind in filterable.items():
        compared = (
            ""
            if name in view.run_columns
            else f" Also {name}_null, {name}_ne"
            + (
                f", {', '.join(f'{name}_{suffix}' for suffix in list(SQL_OPERATORS)[1:])}."
                if kind not in ("varchar", "boolean")
                else "."
            )
        )
        schema = {"type": "array", "items": JSON_TYPES[kind]}
        yield parameter(name, schema, f"Any of these values.{compared}", explode=True)
    sorted_by = [f"{minus}{name}" for name in view.columns for minus in ("", "-")]
    yield parameter(
        "order",
        {"type": "array", "items": {"type": "string", "enum": sorted_by}, "minItems": 1},
        "Columns to sort by, separated by commas; a minus in front sorts descending.",
        explode=False,
        example=sorted_by[1:2],
    )
    rows = {"type": "integer", "minimum": 1, "maximum": max_rows}
    yield parameter("limit", rows, f"Rows of a page; {DEFAULT_LIMIT} by default.", example=10)
    cursor = {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"}
    yield parameter("cursor", cursor, "What `next` of the page before said.")
    formats = {"type": "string", "enum": [format.value for format in RowFormat]}
    yield parameter("format", formats, "Also by the header Accept; JSON by default.")
