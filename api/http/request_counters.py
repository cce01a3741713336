"""Counts requests, their durations and SQL queries since the start of the server."""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .first_screen import OWN_REQUEST
from .openmetrics import MetricFamily

DURATION_BUCKETS = (0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 10.0)
"""Upper bounds of the histogram's buckets in seconds; a last bucket has no bound."""

CounterKey = tuple[str, str, str]


@dataclass
class RequestCounters:
    """The counters of one server since its start."""

    response_counts: Counter[CounterKey] = field(default_factory=Counter)
    seconds: Counter[CounterKey] = field(default_factory=Counter)
    buckets: Counter[tuple[CounterKey, int]] = field(default_factory=Counter)
    queries: Counter[str] = field(default_factory=Counter)

    def count_response(self, key: CounterKey, seconds: float) -> None:
        """Count an answer by method, route and status."""
        self.response_counts[key] += 1
        self.seconds[key] += seconds  # type: ignore[assignment]  # a Counter can add floats too
        self.buckets[key, bisect_left(DURATION_BUCKETS, seconds)] += 1

    def metric_families(self) -> Iterable[MetricFamily]:
        """The counters as metrics."""
        latency = MetricFamily(
            "prunelake_http_request_seconds",
            "histogram",
            "Requests and their durations by method, route and status.",
        )
        for key in sorted(self.response_counts):
            labels = dict(zip(("method", "route", "status"), key, strict=True))
            below = 0
            for position, bound in enumerate((*DURATION_BUCKETS, float("inf"))):
                below += self.buckets[key, position]
                le = "+Inf" if position == len(DURATION_BUCKETS) else f"{bound}"
                latency.add(below, "_bucket", **labels, le=le)
            latency.add(self.response_counts[key], "_count", **labels)
            latency.add(self.seconds[key], "_sum", **labels)
        queries = MetricFamily(
            "prunelake_sql_queries",
            "counter",
            "SQL queries by outcome: answered, invalid_sql, limit_exceeded (stopped), busy, ...",
        )
        for outcome, count in sorted(self.queries.items()):
            queries.add(count, outcome=outcome)
        return [latency, queries]


class RequestCountingMiddleware:
    """ASGI middleware that counts every answer, including cached and refused answers."""

    def __init__(self, app: ASGIApp, counts: RequestCounters, routes: Iterable[BaseRoute]) -> None:
        self.app = app
        self.counts = counts
        self.routes = [route for route in routes if getattr(route, "path", None)]
        paths = (str(getattr(route, "path", "")) for route in self.routes)
        self.exact_paths = frozenset(path for path in paths if "{" not in path)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or OWN_REQUEST in scope:
            await self.app(scope, receive, send)
            return
        status, started_at = CLIENT_LEFT, time.perf_counter()

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception:
            status = "500"
            raise
        finally:
            method = scope["method"] if scope["method"] in KNOWN_HTTP_METHODS else "other"
            key = method, self._route(scope), status
            self.counts.count_response(key, time.perf_counter() - started_at)

    def _route(self, scope: Scope) -> str:
        """The pattern of the matching route, so that the number of time series stays bounded."""
        if scope["path"] in self.exact_paths:
            return str(scope["path"])
        for route in self.routes:
            if route.matches(scope)[0] is not Match.NONE:
                return str(getattr(route, "path", ""))
        return "none"


CLIENT_LEFT = "499"
"""The status of a request whose client left before the answer began, as in other servers."""

KNOWN_HTTP_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
"""All other methods share one time series, so that clients cannot add series without limit."""
