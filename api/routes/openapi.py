"""GET /openapi.json: the description of the API for programs."""

import hashlib
from functools import cache
from typing import Any

from fastapi import FastAPI, Response
from fastapi.openapi.utils import get_openapi

from prunelake.schema.row_formats import to_json

from . import view_openapi


def mount_openapi(app: FastAPI, max_rows: int) -> None:
    """Serve FastAPI's description of an app with the components of the views.

    It is made at the first request, and then kept.
    """

    @cache
    def openapi() -> dict[str, Any]:
        document = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
        )
        components = document["components"]
        for kind, named in view_openapi.components(max_rows).items():
            components[kind] = dict(sorted((components.get(kind, {}) | named).items()))
        return document

    @cache
    def response() -> Response:
        body = to_json(openapi())
        headers = {
            "ETag": f'"{hashlib.sha256(body).hexdigest()[:16]}"',
            "Cache-Control": "no-cache",
        }
        return Response(body, headers=headers, media_type="application/json")

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's guide does

    @app.api_route("/openapi.json", methods=["GET", "HEAD"], include_in_schema=False)
    def document() -> Response:
        return response()
