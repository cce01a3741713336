"""What the server has answered since its start: requests, their time, queries of others."""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .openmetrics import MetricFamily

DURATION_BUCKETS = (0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 10.0)
"""Seconds: upper bounds of the histogram's buckets, beside infinity."""

CounterKey = tuple[str, str, str]


@dataclass
class RequestCounters:
    """Counters of one server, from its start on."""

    response_counts: Counter[CounterKey] = field(default_factory=Counter)
    seconds: Counter[CounterKey] = field(default_factory=Counter)
    buckets: Counter[tuple[CounterKey, int]] = field(default_factory=Counter)
    queries: Counter[str] = field(default_factory=Counter)

    def count_response(self, key: CounterKey, seconds: float) -> None:
        """Count an answer by method, route and status."""
        self.response_counts[key] += 1
        self.seconds[key] += seconds  # type: ignore[assignment]  # a Counter adds floats, too
        self.buckets[key, bisect_left(DURATION_BUCKETS, seconds)] += 1

    def metric_families(self) -> Iterable[MetricFamily]:
        """The counters as metrics."""
        latency = MetricFamily(
            "prunelake_http_request_seconds",
            "histogram",
            "Requests by method, route and status, and how long their answers took.",
        )
        for key in sorted(self.response_counts):
            labels = dict(zip(("method", "route", "status"), key, strict=True))
            below = 0
            for place, bound in enumerate((*DURATION_BUCKETS, float("inf"))):
                below += self.buckets[key, place]
                le = "+Inf" if place == len(DURATION_BUCKETS) else f"{bound}"
                latency.add(below, "_bucket", **labels, le=le)
            latency.add(self.response_counts[key], "_count", **labels)
            latency.add(self.seconds[key], "_sum", **labels)
        queries = MetricFamily(
            "prunelake_sql_queries",
            "counter",
            "SQL of others by outcome: answered, invalid_sql, limit_exceeded (stopped), busy, ...",
        )
        for outcome, count in sorted(self.queries.items()):
            queries.add(count, outcome=outcome)
        return [latency, queries]


class RequestCountingMiddleware:
    """ASGI middleware that counts every answer, also those of the cache and those refused."""

    def __init__(self, app: ASGIApp, counts: RequestCounters, routes: Iterable[BaseRoute]) -> None:
        self.app = app
        self.counts = counts
        self.routes = [route for route in routes if getattr(route, "path", None)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status, began = "500", time.perf_counter()

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            method = scope["method"] if scope["method"] in KNOWN_HTTP_METHODS else "other"
            key = method, self._route(scope), status
            self.counts.count_response(key, time.perf_counter() - began)

    def _route(self, scope: Scope) -> str:
        """The pattern that a path is answered by, so that the number of series is bounded."""
        for route in self.routes:
            if route.matches(scope)[0] is not Match.NONE:
                return str(getattr(route, "path", ""))
        return "none"


KNOWN_HTTP_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
"""Others are counted as one: whoever asks must not make a new series with each request."""
