"""Exact paths are found at once, with the answers of a search through all routes."""

import pytest
from starlette.responses import PlainTextResponse
from starlette.routing import Route, Router
from starlette.testclient import TestClient

from prunelake.api.http.exact_routes import ExactRoutes


def route(path: str, method: str) -> Route:
    async def answer(_: object) -> PlainTextResponse:
        return PlainTextResponse(f"{method} {path}")

    return Route(path, answer, methods=[method])


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/views/metrics"),
        ("HEAD", "/views/metrics"),
        ("GET", "/views/other"),
        ("GET", "/views/metrics.csv"),
        ("GET", "/views/metrics/"),
        ("GET", "/views%2Fmetrics"),
        ("GET", "/sql"),
        ("POST", "/sql"),
        ("PUT", "/sql"),
        ("POST", "/views/metrics"),
        ("GET", "/none"),
        ("GET", "/views/{name}"),
    ],
)
def test_every_request_gets_the_answer_of_the_search(method: str, path: str) -> None:
    routes = [
        *(route("/views/metrics", "GET"), route("/views/{name}.csv", "GET")),
        *(route("/views/{name}", "GET"), route("/sql", "GET"), route("/sql", "POST")),
    ]
    searched, direct = (
        TestClient(Router(all_routes)).request(method, path, follow_redirects=False)
        for all_routes in (routes, [ExactRoutes(routes), *routes])
    )
    assert (direct.status_code, direct.text) == (searched.status_code, searched.text)
    assert direct.headers == searched.headers
