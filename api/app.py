"""The server: routes over the published snapshot of a lake."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

from fastapi import Depends, FastAPI
from fastapi.security import HTTPBearer

from prunelake.lake.objects import ObjectPath
from prunelake.lake.storage import Location
from prunelake.settings import Settings

from .http import problems
from .http.cache import CacheMiddleware
from .http.request_counters import RequestCounters, RequestCountingMiddleware
from .http.security import SecurityMiddleware
from .queries.snapshot import LatestSnapshot
from .queries.snapshot_mirror import SnapshotMirror
from .routes import charts, data, examples, findings, metrics, page, recommendations, sql
from .sandbox.worker_pool import WorkerPool
from .settings import ApiSettings

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
    mirror: SnapshotMirror | None = None
    if isinstance(lake, ObjectPath):
        mirror = SnapshotMirror(lake, cache or Settings().cache)
        folder = mirror.folder
        folder.mkdir(parents=True, exist_ok=True)
    else:
        folder = lake
    snapshots = LatestSnapshot(folder, max_seconds=settings.max_seconds, mirror=mirror)
    guard = WorkerPool(folder, settings)
    counts = RequestCounters()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with guard.started():
            following = asyncio.create_task(mirror.poll()) if mirror else None
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
        *(recommendations.router, examples.router, metrics.router, sql.sql_router(settings)),
    )
    for router in routers:
        app.include_router(router)
    page.mount_page(app)
    problems.install_error_handlers(app)
    # The last one added is the first to see a request.
    app.add_middleware(CacheMiddleware, snapshots=snapshots, capacity=settings.cache_bytes)
    app.add_middleware(problems.UnexpectedErrorMiddleware)
    app.add_middleware(SecurityMiddleware, token=settings.token)
    # An app tells no more of the routers that it includes than that something matches.
    routes = [
        *app.routes,
        *(route for router in (*routers, page.router) for route in router.routes),
    ]
    app.add_middleware(RequestCountingMiddleware, counts=counts, routes=routes)
    return app
