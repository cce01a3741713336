"""Every error of the API in one shape: {"error": {"code", "message", "choices"}}."""

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
    """What went wrong."""

    code: str = Field(description="One word for programs.", examples=["not_found"])
    message: str = Field(
        description="What is wrong and what would do.", examples=["no view 'metric'"]
    )
    choices: list[str] = Field(
        default=[], description="What could have been named.", examples=[["metrics"]]
    )


class Problem(BaseModel):
    """The body of every answer whose status is 400 or more."""

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
"""Status and code of what PruneLake refuses; anything else is a 500."""

ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    304: {"description": "If-None-Match holds what is current."},
    422: {"model": Problem, "description": "A parameter or value that means nothing."},
    "4XX": {"model": Problem, "description": "What is wrong with the request."},
    "5XX": {"model": Problem, "description": "What is wrong with the server."},
}
"""For the OpenAPI of every route."""


def error_response(
    status: int,
    code: str,
    message: str,
    choices: list[str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The answer that tells of an error."""
    detail = Detail(code=code, message=message, choices=choices or [])
    body = to_json(Problem(error=detail).model_dump())
    return Response(body, status, headers, media_type="application/json")


def response_to(error: errors.PruneLakeError) -> Response:
    """The answer to what PruneLake refuses."""
    status, code = status_and_code(error)
    headers = {401: {"WWW-Authenticate": "Bearer"}, 429: {"Retry-After": "1"}}.get(status)
    return error_response(status, code, str(error), getattr(error, "choices", []), headers)


def status_and_code(error: errors.PruneLakeError) -> tuple[int, str]:
    """The HTTP status, and one word for programs."""
    return next(
        (found for kind, found in ERROR_STATUS.items() if isinstance(error, kind)),
        (500, "internal"),
    )


def install_error_handlers(app: FastAPI) -> None:
    """Answer every error of the app's routes in the one shape."""

    @app.exception_handler(errors.PruneLakeError)
    def refused(_: Request, error: errors.PruneLakeError) -> Response:
        return response_to(error)

    @app.exception_handler(HTTPException)
    def of_http(request: Request, error: HTTPException) -> Response:
        phrase = HTTPStatus(error.status_code).phrase
        message = str(error.detail)
        if error.status_code == 404:
            message = f"nothing is at {request.url.path}; /openapi.json lists what there is"
        headers = dict(error.headers or {})
        if error.status_code == 405:
            # HEAD is answered as GET is, though no route says so.
            methods = headers["Allow"].split(", ")
            methods += ["HEAD"] if "GET" in methods and "HEAD" not in methods else []
            headers["Allow"] = ", ".join(methods)
            message = f"{request.url.path} takes {headers['Allow']}, not {request.method}"
        # Python's phrase for 413 is another one since 3.13.
        code = "too_large" if error.status_code == 413 else phrase.lower().replace(" ", "_")
        return error_response(error.status_code, code, message, headers=headers)

    @app.exception_handler(RequestValidationError)
    def invalid(_: Request, error: RequestValidationError) -> Response:
        found = [
            f"{'.'.join(map(str, item['loc'][1:])) or item['loc'][0]}: {item['msg']}"
            for item in error.errors()
        ]
        return error_response(422, "invalid_request", "; ".join(found))


class UnexpectedErrorMiddleware:
    """ASGI middleware: what no one foresaw is logged, and answered in the one shape."""

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
            text = "this is a fault of the server; its log has the details"
            await error_response(500, "internal", text)(scope, receive, send)
