"""The page at /, and the files it is made of."""

from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.responses import FileResponse
from starlette.staticfiles import StaticFiles

FOLDER = Path(__file__).parents[1] / "page"

router = APIRouter()


@router.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
def page() -> FileResponse:
    """The page."""
    return FileResponse(FOLDER / "index.html", headers={"Cache-Control": "no-cache"})


def install(app: FastAPI) -> None:
    """Serve the page, and the scripts and styles beside it under /page/."""
    app.include_router(router)
    app.mount("/page", StaticFiles(directory=FOLDER))
