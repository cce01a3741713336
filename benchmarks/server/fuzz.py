"""Check that the API conforms to its OpenAPI: schemathesis and hostile requests, route by route.

    python -m benchmarks.server.fuzz [--cases 1000] [--routes REGEX] [--workers 2]

Serves a small lake of drawn runs. Prints one line for each route, and the faults; with faults the
exit status is 1. Every error must have the common shape, and none may be a server error.
"""

import argparse
import http.client
import itertools
import json
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
from pydantic import ValidationError

from benchmarks.server.serving import Server, served
from prunelake.analysis.analyse import analyse
from prunelake.api.http.problems import Problem
from prunelake.lake.publish import publish
from tests.support.api.hostile_requests import CURSORS, HEADERS, HOSTS, header_bytes
from tests.support.runs import example_runs

PATH_AND_BODY_PARAMETERS = (("path", "run_id"), ("path", "example_id"), ("body", "query"))
"""Parameters that mostly need known values; other values give only 404."""

LIMITS = {
    "PRUNELAKE_API_SQL_MAX_SECONDS": "2",
    "PRUNELAKE_API_SQL_MAX_ROWS": "100",
    "PRUNELAKE_API_SQL_MEMORY_BYTES": "500000000",
}

METHODS = (
    "HEAD",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "OPTIONS",
    "TRACE",
    "PROPFIND",
    "CONNECT",
    "BREW",
)

# Values that break servers, as written in a URL.
HOSTILE_VALUES = (
    "",
    "%00",
    "a%00b",
    "%ED%A0%80",  # a lone surrogate
    "%ff",
    "%F0%9F%98%80",
    "%D9%A3",  # a digit of another script
    "1_0",
    "-0",
    "nan",
    "1e999",
    "9" * 5000,
    "x" * 20_000,
    "x" * 100_000,
    "%27%3B%20drop%20table%20runs%3B--",
    "%25s%7B0%7D%24p0",
    "..%2F..%2Fetc",
    "null",
    "%5B%5D",
    "W1tbW1tbW1tb",
    "0001-01-01T00:00:00%2B23:59",
    "9999-12-31T23:59:59-23:59",
)

BODIES = (
    b"",
    b"{",
    b"[]",
    b"null",
    b"\xff\xfe",
    b'"\\ud800"',
    b'{"query": 1}',
    b'{"query": "\\u0000"}',
    b'{"query": "\\ud800"}',
    b'{"query": "select 1", "unknown": 1}',
    b'{"query": "select 1", "query": 2}',
    b"[" * 50_000,
    b'{"query": NaN}',
)

TYPES = ("application/json", "text/plain", "application/xml", "application/json; charset=x", "")


class FuzzRequest(NamedTuple):
    """One request."""

    method: str
    target: str
    body: bytes | None = None
    headers: Mapping[str, bytes] = {}


@dataclass
class Route:
    """A route, and the results of its requests."""

    path: str
    operations: Mapping[str, Any]
    cases: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    accepted: int = 0
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def line(self) -> str:
        hostile = sum(self.statuses.values())
        return (
            f"{self.path:40} {self.cases:6,} cases ({self.accepted:,} accepted) "
            f"{hostile:5,} hostile {len(self.faults):3} faults {self.seconds:6.1f} s"
        )


def make_lake(folder: Path) -> dict[str, list[str]]:
    """A small published lake; returns values that its routes know, by parameter."""
    runs = [
        example_runs.explained_run(folder, "explained"),
        example_runs.published_run(folder),
        example_runs.judged_run(folder, n=40),
    ]
    publish(folder, analyse)
    return {
        "run_id": runs,
        "example_id": ["test:0", "test:1"],
        "model": ["tiny"],
        "task": ["demo"],
        "method": ["kernel_shap", "lime"],
        "metric": ["ece", "accuracy", "nll"],
        "query": ["select * from runs", "from metrics limit 5", "select 1/0", "select nan"],
    }


def configuration(known: Mapping[str, list[str]]) -> str:
    """The values that schemathesis draws, mixed with values that it invents."""
    lines = ["[phases.coverage]", "generate-duplicate-query-parameters = true"]
    for name, values in known.items():
        lines += [f"[dictionaries.{name}]", f"values = {json.dumps(values)}"]
    anything = json.dumps([value for values in known.values() for value in values])
    lines += ["[dictionaries.any]", f"values = {anything}"]
    lines += ["[generation.dictionaries]", 'string = {dictionary = "any", probability = 0.5}']
    for place, name in PATH_AND_BODY_PARAMETERS:
        lines += [f'[parameters."{place}.{name}"]', f'dictionary = "{name}"', "probability = 0.8"]
    return "\n".join(lines)


def without_cursors(document: dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI for schemathesis, without cursors: a schema cannot tell which cursors exist.

    Parameters stand in their operations, not among the components.
    """
    shared = document["components"]["parameters"]
    for operation in (o for path in document["paths"].values() for o in path.values()):
        found = [
            shared[p["$ref"].rpartition("/")[2]] if "$ref" in p else p
            for p in operation.get("parameters", [])
        ]
        # Filters of files depend on the view.
        operation["parameters"] = [p for p in found if p["name"] not in ("cursor", "filters")]
    return document


def fuzz_with_schemathesis(route: Route, server: Server, folder: Path, cases: int) -> None:
    """Send the requests that schemathesis draws."""
    report = folder / f"{route.path.strip('/').replace('/', '_')}.json"
    command = [str(Path(sys.executable).with_name("schemathesis")), "--no-color"]
    command += ["--config-file", str(folder / "fuzz.toml"), "run", str(folder / "openapi.json")]
    command += ["--url", server.url, "--include-path", route.path, "--checks", "all"]
    command += ["--max-examples", str(cases), "--seed", "1", "--continue-on-failure"]
    command += ["--report", "json", "--report-json-path", str(report)]
    command += ["--suppress-health-check", "all"]
    if route.path == "/sql":
        # A schema cannot tell which texts are SQL.
        command += ["--exclude-checks", "positive_data_acceptance"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    if not report.exists():
        route.faults.append(f"schemathesis: {ran.stdout[-2000:]}{ran.stderr[-2000:]}")
        return
    told = json.loads(report.read_text())
    route.cases = told["test_cases"]["generated"]
    rates = told["valid_rates"].values()
    route.accepted = sum(phase["accepted"] for rate in rates for phase in rate.values())
    if ran.returncode:
        route.faults.append(ran.stdout)


def hostile_requests(route: Route, known: Mapping[str, list[str]]) -> Iterator[FuzzRequest]:
    """Requests that no well-meaning client sends."""
    names = {name: quote(values[0]) for name, values in known.items()}
    names["name"] = "reliability"  # a view and a chart
    good = re.sub(r"\{(\w+)\}", lambda found: names[found[1]], route.path)
    for method in METHODS:
        yield FuzzRequest(method, good)
    for position, part in enumerate(parts := route.path.split("/")):
        if "{" in part:
            filled = good.split("/")
            for nasty in HOSTILE_VALUES:
                yield FuzzRequest(
                    "GET", "/".join([*filled[:position], nasty, *filled[position + 1 :]])
                )
                tail = [nasty] * (len(parts) - position)
                yield FuzzRequest("GET", "/".join([*filled[:position], *tail]))
    method = "POST" if "post" in route.operations else "GET"
    operation = route.operations[method.lower()]
    named = [p["name"] for p in operation.get("parameters", []) if p["in"] == "query"]
    # Not every filter of a view: filters of one type share their code.
    for name, nasty in itertools.product(
        [*named[:4], *named[-5:], "no_such", "%00"], HOSTILE_VALUES
    ):
        yield FuzzRequest(method, f"{good}?{name}={nasty}")
    for name in named:
        yield FuzzRequest(method, f"{good}?{name}=1&{name}=2&{name}=1")
    yield FuzzRequest(method, f"{good}?&&==&;=%")
    yield FuzzRequest(method, f"{good}?{'&'.join(f'p{i}=1' for i in range(2000))}")
    for body, kind in itertools.product(BODIES, TYPES):
        yield FuzzRequest(method, good, body, {"Content-Type": kind.encode()})
    for cursor in CURSORS if "order" in named else ():
        yield FuzzRequest(method, f"{good}?cursor={quote(cursor)}")
    for name, values in (HEADERS | {"Host": HOSTS}).items():
        for value in values:
            yield FuzzRequest(method, good, None, {name: header_bytes(value)})


def ask(route: Route, server: Server, known: Mapping[str, list[str]]) -> None:
    """Send the hostile requests."""
    connection = http.client.HTTPConnection(server.address, timeout=30)
    for asked in hostile_requests(route, known):
        try:
            connection.request(asked.method, asked.target, asked.body, asked.headers)
            response = connection.getresponse()
            body = response.read()
        except (http.client.HTTPException, OSError) as error:
            route.faults.append(f"{asked}: {error!r}"[:300])
            connection.close()
            continue
        route.statuses[response.status] += 1
        fault = response_fault(asked, response, body)
        if fault is not None:
            route.faults.append(f"{asked}: {fault}"[:500])
    connection.close()


def response_fault(
    asked: FuzzRequest, response: http.client.HTTPResponse, body: bytes
) -> str | None:
    """The fault of an answer; None if it has none."""
    status = response.status
    if status >= 500:
        return f"{status} {body!r}"
    if status == 405 and not response.headers["Allow"]:
        return "405 without Allow"
    if asked.method == "HEAD":
        return f"HEAD with a body {body!r}" if body else None
    if status < 400:
        return None
    if response.headers["Content-Type"] != "application/json":
        return f"{status} as {response.headers['Content-Type']}"
    try:
        Problem.model_validate_json(body, strict=True, extra="forbid")
    except ValidationError as error:
        return f"{status} {body!r}: {error}"
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--routes", default="", help="only those that this is found in")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lake = folder / "lake"
        known = make_lake(lake)
        with served(lake, folder / "log", **LIMITS) as server:
            document = without_cursors(httpx.get(f"{server.url}/openapi.json").json())
            (folder / "openapi.json").write_text(json.dumps(document))
            (folder / "fuzz.toml").write_text(configuration(known))
            routes = [
                Route(path, operations)
                for path, operations in document["paths"].items()
                if re.search(options.routes, path)
            ]

            def fuzz(route: Route) -> Route:
                start = time.perf_counter()
                fuzz_with_schemathesis(route, server, folder, options.cases)
                ask(route, server, known)
                route.seconds = time.perf_counter() - start
                return route

            with ThreadPoolExecutor(options.workers) as pool:
                for route in pool.map(fuzz, routes):
                    print(route.line, *route.faults, sep="\n", flush=True)
        log = (folder / "log").read_text()
    faults = sum(len(route.faults) for route in routes) + log.count("Traceback")
    print(
        f"{len(routes)} routes, {sum(route.cases for route in routes):,} cases and "
        f"{sum(sum(route.statuses.values()) for route in routes):,} hostile requests: "
        f"{faults} faults in {(time.perf_counter() - began) / 60:.1f} minutes"
    )
    if "Traceback" in log:
        print(log)
    if faults or not routes:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
