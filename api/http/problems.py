"""The JSON shape of every error: {"error": {"code", "message", "choices"}}."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from prunelake import errors
from prunelake.schema.row_formats import to_json

log = logging.getLogger(__name__)


class Detail(BaseModel):
    """An error: a code for programs, a message for people, and the possible choices."""

    code: str = Field(description="One word for programs.", examples=["not_found"])
    message: str = Field(description="The problem and its remedy.", examples=["no view 'metric'"])
    choices: list[str] = Field(default=[], description="The valid values.", examples=[["metrics"]])


class Problem(BaseModel):
    """The body of every answer with a status of 400 or more."""

    error: Detail


ERROR_STATUS: Mapping[type[errors.PruneLakeError], tuple[int, str]] = {
    errors.InvalidRequest: (422, "invalid_request"),
    errors.QueryError: (422, "invalid_sql"),
    errors.LimitExceeded: (422, "limit_exceeded"),
    errors.NothingToShow: (404, "nothing_to_show"),
    errors.NotFound: (404, "not_found"),
    errors.OutdatedCursor: (410, "outdated"),
    errors.ServerBusy: (429, "busy"),
    errors.AccessDenied: (401, "refused"),
    errors.NoSnapshot: (503, "no_snapshot"),
}
"""Status and code of each error of PruneLake; any other exception is a 500."""

ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    304: {"description": "If-None-Match holds the current snapshot."},
    422: {"model": Problem, "description": "An invalid parameter or value."},
    "4XX": {"model": Problem, "description": "An error in the request."},
    "5XX": {"model": Problem, "description": "An error in the server."},
}
"""The error responses in the OpenAPI of every route."""


def error_response(
    status: int,
    code: str,
    message: str,
    choices: list[str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The answer with an error in the JSON shape."""
    detail = Detail(code=code, message=message, choices=choices or [])
    body = to_json(Problem(error=detail).model_dump())
    return Response(body, status, headers, media_type="application/json")


def response_to(error: errors.PruneLakeError) -> Response:
    """The answer for an error of PruneLake."""
    status, code = status_and_code(error)
    headers = {401: {"WWW-Authenticate": "Bearer"}, 429: {"Retry-After": "1"}}.get(status)
    return error_response(status, code, str(error), getattr(error, "choices", []), headers)


def status_and_code(error: errors.PruneLakeError) -> tuple[int, str]:
    """The HTTP status and the code of an error."""
    return next(
        (status for kind, status in ERROR_STATUS.items() if isinstance(error, kind)),
        (500, "internal"),
    )


def install_error_handlers(app: FastAPI) -> None:
    """Answer every error of the app's routes in the JSON shape."""

    @app.exception_handler(errors.PruneLakeError)
    def refused(_: Request, error: errors.PruneLakeError) -> Response:
        return response_to(error)

    @app.exception_handler(HTTPException)
    def http_error(request: Request, error: HTTPException) -> Response:
        phrase = HTTPStatus(error.status_code).phrase
        message = str(error.detail)
        if error.status_code == 404:
            message = f"no path {request.url.path}; /openapi.json lists all paths"
        headers = dict(error.headers or {})
        if error.status_code == 405:
            # CacheMiddleware answers HEAD like GET, without a route.
            methods = headers["Allow"].split(", ")
            methods += ["HEAD"] if "GET" in methods and "HEAD" not in methods else []
            headers["Allow"] = ", ".join(methods)
            message = f"{request.url.path} takes {headers['Allow']}, not {request.method}"
        # Python 3.13 changed its phrase for 413.
        code = "too_large" if error.status_code == 413 else phrase.lower().replace(" ", "_")
        return error_response(error.status_code, code, message, headers=headers)

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        problems = error.errors()
        choices: list[str] = []
        for problem in problems:
            if problem["type"] == "extra_forbidden":
                choices = _known_names(request, problem["loc"][0])
                problem["msg"] = f"no such parameter; {request.url.path} takes {', '.join(choices)}"
        # A location begins with the part of the request: query, path or body.
        message = errors.validation_message(
            problems,
            name_of=lambda problem: errors.dotted_path(problem["loc"][1:]) or problem["loc"][0],
        )
        return error_response(422, "invalid_request", message, choices)


def _known_names(request: Request, part: str | int) -> list[str]:
    """The names of the parameters in the query, or of the fields in the body, of a route."""
    route = request.scope["route"]
    fields = [route.body_field] if part == "body" else route.dependant.query_params
    models = [field.field_info.annotation for field in fields]
    return [name for model in models for name in model.model_fields]


class UnexpectedErrorMiddleware:
    """ASGI middleware that logs unexpected exceptions and answers 500 in the JSON shape."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        has_started = False

        async def watched(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception:
            if scope["type"] != "http" or has_started:
                raise
            log.exception("%s %s failed", scope["method"], scope["path"])
            text = "the server failed; its log has the details"
            await error_response(500, "internal", text)(scope, receive, send)
