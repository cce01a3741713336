"""The server: all routes over the published snapshot of a lake."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

from fastapi import Depends, FastAPI
from fastapi.security import HTTPBearer

from prunelake.lake.storage.location import Location
from prunelake.settings import Settings

from .http import problems
from .http.cache import CacheMiddleware
from .http.compression import CompressionMiddleware
from .http.disconnects import DisconnectMiddleware
from .http.exact_routes import ExactRoutes
from .http.first_screen import prepare_first_screens
from .http.origins import OriginsMiddleware
from .http.request_counters import RequestCounters, RequestCountingMiddleware
from .http.security import SecurityMiddleware
from .queries.operations import Operations
from .queries.snapshots.snapshot import LatestSnapshot
from .queries.snapshots.snapshot_mirror import snapshot_folder
from .routes import charts, data, examples, findings, metrics, page, plan, recommendations, sql
from .routes.openapi import mount_openapi
from .sandbox.worker_pool import WorkerPool
from .settings import ApiSettings

DESCRIPTION = """
The effect of removing attention layers on a model's accuracy, calibration and explanations. All
answers come from one snapshot of the lake; the ETag changes with it. The server uses a new snapshot
as soon as it is published.
"""


def create_app(
    lake: Location,
    settings: ApiSettings | None = None,
    cache: Path | None = None,
    is_preparing: bool = False,
) -> FastAPI:
    """The server of a lake; it opens the snapshot at the first request.

    For a lake in an object store it keeps a copy of the snapshot in `cache` (by default,
    PRUNELAKE_CACHE). With `is_preparing` it opens every snapshot soon after it is published, and
    prepares the first screen of the page.
    """
    settings = settings or ApiSettings()
    folder, mirror = snapshot_folder(lake, cache or Settings().cache)
    snapshots = LatestSnapshot(folder, max_seconds=settings.max_seconds, mirror=mirror)
    workers = WorkerPool(folder, settings)
    counts = RequestCounters()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with workers.started():
            tasks = [asyncio.create_task(mirror.poll())] if mirror else []
            if is_preparing:
                tasks.append(asyncio.create_task(prepare_first_screens(app, snapshots)))
            yield
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # FastAPI's own documentation pages load scripts from other hosts.
    app = FastAPI(
        title="PruneLake",
        version=version("prunelake"),
        description=DESCRIPTION,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        # Only for the OpenAPI: SecurityMiddleware has checked the token before.
        dependencies=[Depends(HTTPBearer(auto_error=False))] if settings.token else [],
        lifespan=lifespan,
    )
    app.state.settings = settings
    app.state.workers = workers
    app.state.snapshots = snapshots
    app.state.counts = counts
    app.state.operations = Operations(lake)
    routers = (
        *(data.view_router(), data.router, charts.router, findings.router),
        *(recommendations.router, plan.router, examples.router, metrics.router),
        sql.sql_router(settings),
    )
    for router in routers:
        app.include_router(router)
    page.mount_page(app)
    mount_openapi(app, settings.max_rows)
    problems.install_error_handlers(app)
    # Requests reach the last one first.
    app.add_middleware(CacheMiddleware, snapshots=snapshots, capacity=settings.cache_bytes)
    app.add_middleware(DisconnectMiddleware)
    app.add_middleware(problems.UnexpectedErrorMiddleware)
    app.add_middleware(CompressionMiddleware, capacity=settings.cache_bytes // 4)
    app.add_middleware(SecurityMiddleware, token=settings.token)
    if settings.origins:
        app.add_middleware(OriginsMiddleware, origins=settings.origins)
    # An app does not say which included router matched.
    routes = [
        *app.routes,
        *(route for router in (*routers, page.router) for route in router.routes),
    ]
    app.router.routes.insert(0, ExactRoutes(routes))
    app.add_middleware(RequestCountingMiddleware, counts=counts, routes=routes)
    return app
