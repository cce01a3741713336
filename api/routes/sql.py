"""/sql: one statement that reads, within limits, in a process of its own."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field, Strict
from pydantic.json_schema import SkipJsonSchema
from starlette.types import Message

from prunelake.errors import AccessDenied, InvalidRequest, NotFound, PruneLakeError
from prunelake.schema.row_formats import MEDIA_TYPES, RowFormat

from ..http.negotiation import chosen_format
from ..http.origins import comes_from_other_site
from ..http.problems import ERROR_RESPONSES, status_and_code
from ..http.request_counters import RequestCounters
from ..sandbox.messages import SqlRequest, SqlResponseHeader
from ..sandbox.worker_pool import WorkerPool
from ..settings import ApiSettings
from .parameters import reject_repeated_parameters
from .view_openapi import (
    FILE_FORMATS,
    SPREADSHEET_TEXT,
    file_content,
    media_type,
    other_formats_content,
)

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
    max_seconds: float = Field(description="Seconds from the start of the query.")
    memory_bytes: int


class SqlRows(BaseModel):
    """The rows of a query."""

    snapshot: str = Field(description="Id of the snapshot that the query read.")
    columns: list[Column]
    rows: list[dict[str, Any]]
    row_count: int
    is_truncated: bool = Field(description="Whether a limit cut off rows.")
    limits: Limits


class SqlOptions(BaseModel):
    """A query and its limits; the router sets the maximum of each limit."""

    model_config = ConfigDict(extra="forbid")

    query: str = Field(
        min_length=1,
        max_length=MAX_CHARACTERS,
        description="One statement that only reads: SELECT, FROM, VALUES, PIVOT, SUMMARIZE.",
        examples=["select task, level, accuracy, ece from summary order by all"],
    )


def sql_router(settings: ApiSettings) -> APIRouter:
    """The routes; their OpenAPI states the limits of this server."""
    router = APIRouter(responses=ERROR_RESPONSES, tags=["sql"], route_class=BodyLimitRoute)
    most_rows, most_seconds = settings.sql_max_rows, settings.sql_max_seconds
    row_field = Field(ge=1, le=most_rows, description="The number of rows of the answer.")
    second_field = Field(
        gt=0, le=most_seconds, description="The time limit, without the wait for other queries."
    )

    class SqlQuery(SqlOptions):
        """A query, the format of its rows, and its limits."""

        # The OpenAPI leaves it out: a generated client expects JSON.
        format: SkipJsonSchema[RowFormat | None] = None
        max_rows: Annotated[int, row_field, Strict()] = most_rows
        max_seconds: Annotated[float, second_field, Strict()] = most_seconds

    class SqlParameters(SqlOptions):
        """The same in an address."""

        spreadsheet: bool = Field(default=False, description=f"CSV only. {SPREADSHEET_TEXT}")
        max_rows: Annotated[int, row_field] = most_rows
        max_seconds: Annotated[float, second_field] = most_seconds

    async def answer(
        request: Request, asked: SqlQuery | SqlParameters, format: RowFormat
    ) -> Response:
        workers: WorkerPool = request.app.state.workers
        if not workers.is_enabled:
            raise NotFound("SQL is off on this server; on Linux PRUNELAKE_API_SQL=true turns it on")
        sql_request = SqlRequest(
            query=asked.query,
            format=format,
            is_for_spreadsheet=isinstance(asked, SqlParameters) and asked.spreadsheet,
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
        headers = _headers(header, sql_request)
        if request.method == "POST":
            headers["Cache-Control"] = "no-store"
        return Response(body, headers=headers, media_type=MEDIA_TYPES[format])

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
        format, _ = chosen_format(asked.format, request.headers.get("accept", ""))
        return await answer(request, asked, format)

    def endpoint(file_format: RowFormat | None) -> Callable[..., Coroutine[Any, Any, Response]]:
        async def sql_of_address(
            asked: Annotated[SqlParameters, Query()], request: Request
        ) -> Response:
            """Run the statement in the address, as POST /sql does.

            The answer is kept until the next snapshot, also if the statement reads the time or a
            random number. Browsers may ask for other sites only if PRUNELAKE_API_ORIGINS lists
            these.
            """
            if comes_from_other_site(request.headers, settings.origins):
                raise AccessDenied(
                    "a page of another site sent this query; PRUNELAKE_API_ORIGINS admits sites"
                )
            format, is_negotiated = file_format, False
            if format is None:
                format, is_negotiated = chosen_format(None, request.headers.get("accept", ""))
            if asked.spreadsheet and format is not RowFormat.csv:
                raise InvalidRequest(f"spreadsheet=true is for csv, not for {format}")
            response = await answer(request, asked, format)
            if is_negotiated:
                response.headers["PruneLake-Format"] = format.value
            return response

        return sql_of_address

    for file_format in (None, *FILE_FORMATS):
        content = (
            {"model": SqlRows, "content": SQL_CONTENT}
            if file_format is None
            else {"content": {media_type(file_format): file_content(file_format)}}
        )
        router.add_api_route(
            f"/sql.{file_format}" if file_format else "/sql",
            endpoint(file_format),
            summary=f"Rows of a query in the address{f': {file_format}' if file_format else ''}",
            operation_id=f"sql_{file_format or 'rows'}",
            response_class=Response,
            dependencies=[Depends(reject_repeated_parameters)],
            responses={200: {"description": "The rows."} | content},
        )
    return router


def _headers(header: SqlResponseHeader, request: SqlRequest) -> dict[str, str]:
    headers = {
        "PruneLake-Snapshot": header.snapshot,
        "PruneLake-Row-Count": str(header.row_count),
        "PruneLake-Truncated": str(header.is_truncated).lower(),
    }
    limits = {
        f"PruneLake-{name.replace('_', '-').title()}": f"{value:.15g}"
        for name, value in request.limits.items()
    }
    return headers | limits
