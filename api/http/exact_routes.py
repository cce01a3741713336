"""Finds the route of an exact path at once: FastAPI tries the patterns of all routes in turn."""

from collections.abc import Iterable

from starlette.routing import BaseRoute, Match, Route
from starlette.types import Receive, Scope, Send


class ExactRoutes(BaseRoute):
    """The routes without parameters in their paths, by method and path.

    It stands before all other routes, which answer all other requests.
    """

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        self._routes: dict[tuple[str, str], Route] = {}
        for route in routes:
            if isinstance(route, Route) and "{" not in route.path:
                for method in route.methods or ():
                    self._routes.setdefault((method, route.path), route)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """The match of the route of this method and path."""
        route = self._route(scope)
        return route.matches(scope) if route else (Match.NONE, {})

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, which has a route here."""
        route = self._route(scope)
        assert route is not None, "only requests that match are handled"
        await route.handle(scope, receive, send)

    def _route(self, scope: Scope) -> Route | None:
        return self._routes.get((scope.get("method", ""), scope["path"]))
