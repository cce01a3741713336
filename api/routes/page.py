"""The page at /, and the files it is made of."""

from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.responses import FileResponse
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

FOLDER = Path(__file__).parents[1] / "page"

# Kept, but asked for anew: scripts of two versions do not fit together.
HEADERS = {"Cache-Control": "no-cache"}

router = APIRouter()


class Files(StaticFiles):
    """The files of a folder, with `HEADERS`."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """One file."""
        response = await super().get_response(path, scope)
        response.headers.update(HEADERS)
        return response


@router.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
def page() -> FileResponse:
    """The page."""
    return FileResponse(FOLDER / "index.html", headers=HEADERS)


def install(app: FastAPI) -> None:
    """Serve the page, and the scripts and styles beside it under /page/."""
    app.include_router(router)
    app.mount("/page", Files(directory=FOLDER))
