"""Finds the route of an exact path at once: FastAPI tries the patterns of all routes in turn."""

from collections import defaultdict
from collections.abc import Iterable

from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Receive, Scope, Send


class ExactRoutes(BaseRoute):
    """The routes without parameters in their paths, by path and method.

    It stands before all other routes, which answer all other requests. A refusal names the methods
    of all routes of a path; FastAPI names those of one route.
    """

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        self._routes: defaultdict[str, dict[str, Route]] = defaultdict(dict)
        for route in routes:
            if isinstance(route, Route) and "{" not in route.path:
                for method in sorted(route.methods or ()):
                    self._routes[route.path].setdefault(method, route)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """The match of the route of this method and path; partial for another method."""
        by_method = self._routes.get(scope["path"])
        if by_method is None or scope["type"] != "http":
            return Match.NONE, {}
        route = by_method.get(scope["method"])
        return route.matches(scope) if route else (Match.PARTIAL, {})

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whose path has a route here.

        Raises:
            HTTPException: no route takes the method (405).
        """
        by_method = self._routes[scope["path"]]
        route = by_method.get(scope["method"])
        if route is None:
            raise HTTPException(405, headers={"Allow": ", ".join(by_method)})
        await route.handle(scope, receive, send)
