"""GET /openapi.json: the description of the API for programs."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from . import view_openapi


def openapi_of(app: FastAPI, max_rows: int) -> Callable[[], dict[str, Any]]:
    """The function that describes an app: FastAPI's description with the components of views."""
    document: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not document:
            document.update(
                get_openapi(
                    title=app.title,
                    version=app.version,
                    description=app.description,
                    routes=app.routes,
                )
            )
            components = document["components"]
            for kind, named in view_openapi.components(max_rows).items():
                components[kind] = dict(sorted((components.get(kind, {}) | named).items()))
        return document

    return openapi
