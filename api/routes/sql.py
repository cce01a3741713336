"""POST /sql: one statement that reads, within limits, in a process of its own."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Message

from prunelake.errors import NotFound, PruneLakeError
from prunelake.schema.row_formats import MEDIA_TYPES, RowFormat

from ..http.negotiation import chosen_format
from ..http.problems import ERROR_RESPONSES, status_and_code
from ..http.request_counters import RequestCounters
from ..sandbox.messages import SqlRequest, SqlResponseHeader
from ..sandbox.worker_pool import WorkerPool
from ..settings import ApiSettings
from .view_openapi import other_formats_content

MAX_CHARACTERS = 100_000

MAX_BODY = 1_300_000
"""The largest request in bytes: enough for the longest query with every character escaped."""


class BodyLimitRoute(APIRoute):
    """A route that reads at most `MAX_BODY` bytes of a request."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler behind a byte counter."""
        handler = super().get_route_handler()

        async def bounded(request: Request) -> Response:
            size = 0

            async def receive() -> Message:
                nonlocal size
                message = await request.receive()
                size += len(message.get("body", b""))
                if size > MAX_BODY:
                    raise HTTPException(413, f"a request has at most {MAX_BODY:,} bytes")
                return message

            return await handler(Request(request.scope, receive))

        return bounded


# JSON comes first: generators take the first format.
SQL_CONTENT: dict[str, Any] = {"application/json": {}} | other_formats_content()


class Column(BaseModel):
    """A column of an answer."""

    name: str = Field(examples=["level"])
    type: str = Field(description="DuckDB's type.", examples=["integer"])


class Limits(BaseModel):
    """The limits of a query."""

    max_rows: int
    max_bytes: int = Field(description="Bytes of the answer's body.")
    max_seconds: float = Field(description="Seconds from the request on.")
    memory_bytes: int


class SqlRows(BaseModel):
    """The rows of a query."""

    snapshot: str = Field(description="Id of the snapshot that the query read.")
    columns: list[Column]
    rows: list[dict[str, Any]]
    row_count: int
    is_truncated: bool = Field(description="Whether a limit cut off rows.")
    limits: Limits


def sql_router(settings: ApiSettings) -> APIRouter:
    """The route; its OpenAPI states the limits of this server."""
    router = APIRouter(responses=ERROR_RESPONSES, tags=["sql"], route_class=BodyLimitRoute)
    server_max_rows, server_max_seconds = settings.sql_max_rows, settings.sql_max_seconds

    class SqlQuery(BaseModel):
        """A query, the format of its rows, and limits below those of the server."""

        model_config = ConfigDict(extra="forbid")

        query: str = Field(
            min_length=1,
            max_length=MAX_CHARACTERS,
            description="One statement that only reads: SELECT, FROM, VALUES, PIVOT, SUMMARIZE.",
            examples=["select task, level, accuracy, ece from summary order by all"],
        )
        format: RowFormat | None = Field(
            default=None,
            description="The format of the rows; the Accept header works too. JSON by default.",
        )
        max_rows: int = Field(default=server_max_rows, ge=1, le=server_max_rows, strict=True)
        max_seconds: float = Field(
            default=server_max_seconds,
            gt=0,
            le=server_max_seconds,
            strict=True,
            description="Counted from the request on, with the time spent waiting.",
        )

    @router.post(
        "/sql",
        summary="Rows of a query",
        operation_id="sql",
        response_class=Response,
        responses={200: {"model": SqlRows, "description": "The rows.", "content": SQL_CONTENT}},
    )
    async def sql(asked: SqlQuery, request: Request) -> Response:
        """Run one statement that reads, on the published snapshot.

        Rows beyond a limit are cut off, and `is_truncated` is true. A query beyond its time or
        memory limit is stopped (422, `limit_exceeded`). Headers repeat this in every format:
        PruneLake-Snapshot, -Row-Count, -Truncated, -Max-Rows, -Max-Bytes, -Max-Seconds,
        -Memory-Bytes. Values become text where a format has no type for them.
        """
        workers: WorkerPool = request.app.state.workers
        if not workers.is_enabled:
            raise NotFound("SQL is off on this server; on Linux PRUNELAKE_API_SQL=true turns it on")
        format, _ = chosen_format(asked.format, request.headers.get("accept", ""))
        sql_request = SqlRequest(
            query=asked.query,
            format=format,
            max_rows=asked.max_rows,
            max_bytes=settings.sql_max_bytes,
            max_seconds=asked.max_seconds,
            memory_bytes=settings.sql_memory_bytes,
        )
        counts: RequestCounters = request.app.state.counts
        try:
            header, body = await workers.execute(sql_request)
        except PruneLakeError as error:
            counts.queries[status_and_code(error)[1]] += 1
            raise
        counts.queries["answered"] += 1
        return Response(body, headers=_headers(header, sql_request), media_type=MEDIA_TYPES[format])

    return router


def _headers(header: SqlResponseHeader, request: SqlRequest) -> dict[str, str]:
    headers = {
        "PruneLake-Snapshot": header.snapshot,
        "PruneLake-Row-Count": str(header.row_count),
        "PruneLake-Truncated": str(header.is_truncated).lower(),
        "Cache-Control": "no-store",
    }
    limits = {
        f"PruneLake-{name.replace('_', '-').title()}": f"{value:.15g}"
        for name, value in request.limits.items()
    }
    return headers | limits
