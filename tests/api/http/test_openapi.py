"""The OpenAPI document is complete, and every answer conforms to it."""

import functools
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from prunelake.analysis.analyse import analyse
from prunelake.api.app import create_app
from prunelake.api.http.problems import Problem
from prunelake.api.queries.views.view_catalog import all_views, filter_names
from prunelake.api.routes.view_openapi import JSON_TYPES
from prunelake.api.settings import ApiSettings
from prunelake.lake.publish import publish
from tests.support.paths import ROOT
from tests.support.runs import example_runs

FUZZED = (
    "^/(health|findings|recommendations|sql|views/headlines)$|^/examples/.*example_id|^/charts/"
)
"""A route of every kind. `python -m benchmarks.server.fuzz` fuzzes all routes, for longer."""

EMPTY = (
    *("bounds", "copied_cells", "damaged_runs", "excluded", "looks", "seed_agreement"),
    *("recalibrated_reliability", "texts", "paired_texts"),
    *("costs", "efficiency", "profiles"),
)
"""Views without rows of these runs."""

KINDS: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (float, int),
    "array": list,
    "null": type(None),
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    lake = tmp_path_factory.mktemp("lake")
    example_runs.explained_run(lake, "explained")
    example_runs.published_run(lake)
    example_runs.judged_run(lake, n=40)
    publish(lake, analyse)
    return TestClient(create_app(lake), base_url="http://localhost", client=("127.0.0.1", 1))


@pytest.fixture(scope="module")
def document(client: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = resolved(client.get("/openapi.json").json())
    return found


def resolved(document: dict[str, Any]) -> dict[str, Any]:
    """An OpenAPI whose parameters and pages stand in their operations."""
    for operation in operations(document).values():
        if parameters := operation.get("parameters"):
            operation["parameters"] = [followed(document, p) for p in parameters]
    return document


def followed(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """A schema or parameter, or that to which it refers."""
    while "$ref" in schema:
        place = schema["$ref"].removeprefix("#/").split("/")
        schema = functools.reduce(dict.__getitem__, place, document)
    return schema


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def test_every_operation_and_parameter_is_described(document: dict[str, Any]) -> None:
    told = operations(document)
    assert {"get /health", "get /charts/{name}.svg", "get /views/metrics"} <= set(told)
    for name, operation in told.items():
        assert operation["summary"], name
        assert operation["description"], name
        for parameter in operation.get("parameters", []):
            assert parameter.get("description"), (name, parameter["name"])


def test_required_parameters_have_an_example_or_choices(document: dict[str, Any]) -> None:
    required = [
        (name, parameter)
        for name, operation in operations(document).items()
        for parameter in operation.get("parameters", [])
        if parameter["required"]
    ]
    assert len(required) >= 5
    for name, parameter in required:
        schema = followed(document, parameter["schema"])
        shown = {"example", "examples"} & {*parameter, *schema}
        assert shown or "enum" in schema, (name, parameter["name"])


def test_every_operation_declares_the_error_shape(document: dict[str, Any]) -> None:
    shape = {"$ref": "#/components/schemas/Problem"}
    for name, operation in operations(document).items():
        for status in ("422", "4XX", "5XX"):
            content = operation["responses"][status]["content"]
            assert content == {"application/json": {"schema": shape}}, (name, status)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/views/metrik", 404),
        ("GET", "/charts/pie.svg", 404),
        ("GET", "/charts/reliability.gif", 422),
        ("GET", "/findings?level=99", 404),
        ("GET", "/findings?levle=1", 422),
        ("GET", "/findings?level=0&level=1", 422),
        ("GET", "/examples/x?levle=1", 422),
        ("GET", "/views/metrics?level=1_0", 422),
        ("GET", "/views/metrics?level=\u0663", 422),
        ("GET", "/views/metrics?value_gt=1_0.5", 422),
        ("GET", "/views/metrics?limit=100001", 422),
        ("PUT", "/views/metrics", 405),
        ("DELETE", "/", 405),
    ],
)
def test_an_error_has_the_declared_shape(
    client: TestClient, method: str, path: str, status: int
) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    problem = Problem.model_validate_json(answer.content, strict=True, extra="forbid")
    assert problem.error.message


def test_a_refused_method_names_the_allowed_methods(client: TestClient) -> None:
    for path in ("/", "/health", "/views/metrics", "/findings"):
        answer = client.post(path)
        assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}, path
        assert client.head(path).status_code == 200, path


@pytest.mark.parametrize("path", [f"/views/{name}" for name in all_views()] + ["/correlations"])
def test_rows_are_as_declared(client: TestClient, document: dict[str, Any], path: str) -> None:
    content = document["paths"][path]["get"]["responses"]["200"]["content"]
    answer = client.get(path, params={"limit": "1000"}).json()
    declared = followed(document, content["application/json"]["schema"])
    assert set(answer) == set(declared["properties"]) == set(declared["required"])
    row = followed(document, declared["properties"]["rows"]["items"])
    assert answer["rows"] or path.rpartition("/")[2] in EMPTY
    for found in answer["rows"]:
        assert list(found) == list(row["properties"]) == row["required"]
        for name, schema in row["properties"].items():
            assert fits(found[name], schema), (name, found[name], schema)


def fits(value: Any, schema: dict[str, Any]) -> bool:
    kinds = [kind for kind in schema["type"] if isinstance(value, KINDS[kind])]
    # Python's true is a 1; JSON's is not.
    if not kinds or (isinstance(value, bool) and kinds != ["boolean"]):
        return False
    if isinstance(value, list):
        return all(fits(item, schema["items"]) for item in value)
    if schema.get("format") == "date-time" and value is not None:
        return datetime.fromisoformat(value).tzinfo is not None
    return True


@pytest.mark.parametrize("name", all_views())
def test_the_parameters_of_a_view_are_as_declared(document: dict[str, Any], name: str) -> None:
    view = all_views()[name]
    told = {p["name"]: p for p in document["paths"][f"/views/{name}"]["get"]["parameters"]}
    assert set(told) == {*filter_names(view), "order", "limit", "cursor"}
    terms = followed(document, told["order"]["schema"]["items"])["enum"]
    assert terms == [f"{minus}{column}" for column in view.columns for minus in ("", "-")]
    for column, kind in view.columns.items():
        if kind in JSON_TYPES:
            without_examples = told[column]["schema"]["items"].copy()
            without_examples.pop("examples", None)
            assert without_examples == JSON_TYPES[kind], column
            assert told[f"{column}_null"]["schema"]["type"] == "boolean", column


def test_operations_have_readable_ids_and_json_first(document: dict[str, Any]) -> None:
    told = operations(document)
    ids = [operation["operationId"] for operation in told.values()]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch("[a-z]+(_[a-z]+)*", found) for found in ids)
    assert {"read_metrics", "list_models", "get_findings", "chart_png", "sql"} <= set(ids)
    for operation in told.values():
        kinds = list(operation["responses"]["200"]["content"])
        assert kinds[0] == "application/json" or len(kinds) == 1


def test_the_declared_limit_is_the_configured_limit(tmp_path: Path) -> None:
    document = resolved(create_app(tmp_path, ApiSettings(max_rows=7)).openapi())
    told = {p["name"]: p for p in document["paths"]["/verdicts"]["get"]["parameters"]}
    assert told["limit"]["schema"]["maximum"] == 7


def test_the_token_is_declared_if_it_is_required(tmp_path: Path) -> None:
    open_to_all = create_app(tmp_path, ApiSettings(token=None)).openapi()
    assert not any("security" in told for told in operations(open_to_all).values())
    guarded = create_app(tmp_path, ApiSettings(token=SecretStr("secret"))).openapi()
    (scheme,) = guarded["components"]["securitySchemes"].values()
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    assert all(told["security"] for told in operations(guarded).values())


@pytest.mark.endurance  # each request of a fuzzer takes as long as a test
def test_fuzzed_requests_are_answered_as_declared() -> None:
    # A process of its own: schemathesis changes how pytest and warnings work.
    command = [sys.executable, "-m", "benchmarks.server.fuzz", "--cases", "5", "--routes", FUZZED]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert ran.returncode == 0, ran.stdout[-5000:] + ran.stderr[-5000:]
    assert " 0 faults in " in ran.stdout
