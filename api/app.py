"""The server: routes over the published snapshot of a lake."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

from fastapi import Depends, FastAPI
from fastapi.security import HTTPBearer

from api import problems
from api.cache import Cache
from api.guard import Guard
from api.measuring import Counts, Measuring
from api.mirror import Mirror
from api.routes import charts, data, examples, findings, metrics, page, recommendations, sql
from api.security import Security
from api.settings import ApiSettings
from api.snapshot import Snapshots
from prunelake.lake.objects import ObjectPath
from prunelake.lake.storage import Location
from prunelake.settings import Settings

DESCRIPTION = """
What removing attention layers does to a model's accuracy, calibration and explanations. All
answers come from one snapshot of the lake, whose id is the ETag; a newly published one is picked up
at once.
"""


def create_app(
    lake: Location, settings: ApiSettings | None = None, cache: Path | None = None
) -> FastAPI:
    """The server of a lake; it opens the snapshot when it is first asked.

    Of a lake in an object store it keeps the snapshot in `cache` (PRUNELAKE_CACHE by default).
    """
    settings = settings or ApiSettings()
    mirror: Mirror | None = None
    if isinstance(lake, ObjectPath):
        mirror = Mirror(lake, cache or Settings().cache)
        folder = mirror.folder
        folder.mkdir(parents=True, exist_ok=True)
    else:
        folder = lake
    snapshots = Snapshots(folder, max_seconds=settings.max_seconds, mirror=mirror)
    guard = Guard(folder, settings)
    counts = Counts()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with guard.running():
            following = asyncio.create_task(mirror.follow()) if mirror else None
            yield
            if following:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)

    # The pages that FastAPI would make of its OpenAPI load scripts from other hosts.
    app = FastAPI(
        title="PruneLake",
        version=version("prunelake"),
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        # Only so that the OpenAPI tells of it: Security has refused by then who may not ask.
        dependencies=[Depends(HTTPBearer(auto_error=False))] if settings.token else [],
        lifespan=lifespan,
    )
    app.state.settings = settings
    app.state.guard = guard
    app.state.snapshots = snapshots
    app.state.counts = counts
    routers = (
        *(data.view_router(settings.max_rows), data.router, charts.router, findings.router),
        *(recommendations.router, examples.router, metrics.router, sql.router_of(settings)),
    )
    for router in routers:
        app.include_router(router)
    page.install(app)
    problems.install(app)
    # The last one added is the first to see a request.
    app.add_middleware(Cache, snapshots=snapshots, capacity=settings.cache_bytes)
    app.add_middleware(problems.Catching)
    app.add_middleware(Security, token=settings.token)
    # An app tells no more of the routers that it includes than that something matches.
    routes = [
        *app.routes,
        *(route for router in (*routers, page.router) for route in router.routes),
    ]
    app.add_middleware(Measuring, counts=counts, routes=routes)
    return app
