"""Exact paths are found at once, with the answers of a search through all routes."""

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from prunelake.api.http.exact_routes import ExactRoutes


def route(path: str, method: str) -> Route:
    async def answer(_: object) -> PlainTextResponse:
        return PlainTextResponse(f"{method} {path}")

    return Route(path, answer, methods=[method])


ROUTES = [
    *(route("/views/metrics", "GET"), route("/views/{name}.csv", "GET")),
    *(route("/views/{name}", "GET"), route("/sql", "POST"), route("/sql", "GET")),
]


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
        ("GET", "/none"),
        ("GET", "/views/{name}"),
    ],
)
def test_every_request_gets_the_answer_of_the_search(method: str, path: str) -> None:
    searched, direct = (
        TestClient(Starlette(routes=routes)).request(method, path, follow_redirects=False)
        for routes in (ROUTES, [ExactRoutes(ROUTES), *ROUTES])
    )
    assert (direct.status_code, direct.text) == (searched.status_code, searched.text)
    assert direct.headers == searched.headers


@pytest.mark.parametrize(
    ("path", "methods"), [("/sql", {"GET", "HEAD", "POST"}), ("/views/metrics", {"GET", "HEAD"})]
)
def test_a_refusal_names_the_methods_of_all_routes_of_the_path(
    path: str, methods: set[str]
) -> None:
    answer = TestClient(Starlette(routes=[ExactRoutes(ROUTES), *ROUTES])).put(path)
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == methods
