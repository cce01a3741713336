"""The page at /, and its files."""

from pathlib import Path

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import FileResponse
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from ..charts.drawing import runtime

PAGE_FOLDER = Path(__file__).parents[1] / "page"

# Browsers keep the files but check them each time: scripts of two versions do not fit together.
PAGE_HEADERS = {"Cache-Control": "no-cache"}

router = APIRouter()


class PageFiles(StaticFiles):
    """The files of a folder, with `PAGE_HEADERS`."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """One file."""
        response = await super().get_response(path, scope)
        response.headers.update(PAGE_HEADERS)
        return response


@router.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
def page() -> FileResponse:
    """The page."""
    return FileResponse(PAGE_FOLDER / "index.html", headers=PAGE_HEADERS)


@router.get("/page/vega.js", include_in_schema=False)
def runtime_file(request: Request) -> Response:
    """The script that draws charts; browsers keep it until its version changes."""
    headers = PAGE_HEADERS | {"ETag": f'"{runtime.VERSION}"'}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(runtime.runtime(), media_type="text/javascript", headers=headers)


def mount_page(app: FastAPI) -> None:
    """Serve the page, and the scripts and styles beside it under /page/."""
    app.include_router(router)
    app.mount("/page", PageFiles(directory=PAGE_FOLDER))
