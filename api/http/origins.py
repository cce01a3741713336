"""Lets pages of other sites read the answers: those that PRUNELAKE_API_ORIGINS lists (CORS)."""

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from .problems import error_response

REQUEST_HEADERS = ("Authorization", "Content-Type", "If-None-Match", "If-Range", "Range")

ANSWER_HEADERS = (
    *("Accept-Ranges", "Content-Range", "ETag", "Link", "Retry-After", "PruneLake-Format"),
    *(f"PruneLake-{name}" for name in ("Snapshot", "Row-Count", "Truncated")),
    *(f"PruneLake-Max-{name}" for name in ("Rows", "Bytes", "Seconds")),
    "PruneLake-Memory-Bytes",
)
"""The headers that scripts of other sites may read."""


class OriginsMiddleware(CORSMiddleware):
    """Starlette's CORS for the listed origins; a refusal has the shape of every error."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=("GET", "HEAD", "POST"),
            allow_headers=REQUEST_HEADERS,
            expose_headers=ANSWER_HEADERS,
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """The answer to a browser that asks whether a script may send a request."""
        response = super().preflight_response(request_headers)
        if response.status_code < 400:
            return response
        message = f"{bytes(response.body).decode()}; PRUNELAKE_API_ORIGINS lists the origins"
        return error_response(response.status_code, "bad_request", message)


def comes_from_other_site(headers: Headers, origins: Sequence[str]) -> bool:
    """Whether a page of a site that is not listed sent a request; only browsers tell."""
    site = headers.get("sec-fetch-site", "none")
    return site in ("cross-site", "same-site") and headers.get("origin") not in origins
