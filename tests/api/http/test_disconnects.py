"""The work for clients that have left is cancelled."""

import asyncio
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from prunelake.api.http.cache import CacheMiddleware
from prunelake.api.http.disconnects import DisconnectMiddleware
from prunelake.api.http.request_counters import RequestCounters, RequestCountingMiddleware
from tests.support.limits import HANG_S


class Snapshots:
    """The latest snapshot, as far as the cache needs it."""

    id = "s"

    def current(self) -> Any:
        return self


class SlowApp:
    """An app that answers when it may, and remembers how its work ended."""

    def __init__(self) -> None:
        self.may_answer, self.has_begun = asyncio.Event(), asyncio.Event()
        self.ends: list[str] = []

    async def __call__(self, _: Scope, __: Receive, send: Send) -> None:
        self.has_begun.set()
        try:
            await self.may_answer.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"rows"})
            self.ends.append("answered")
        except asyncio.CancelledError:
            self.ends.append("cancelled")
            raise


class Client:
    """A client that leaves when it is told so."""

    def __init__(self, method: str) -> None:
        self.scope: Scope = {"type": "http", "method": method, "path": "/x", "headers": []}
        self.scope["query_string"] = b""
        self.leaves = asyncio.Event()
        self.messages: list[Message] = []
        self.has_sent = False

    async def receive(self) -> Message:
        if not self.has_sent:
            self.has_sent = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.messages.append(message)


def asked(method: str, leaving: list[int]) -> tuple[SlowApp, list[Client], RequestCounters]:
    """Two equal requests, of which those at the given positions leave."""

    async def run() -> tuple[SlowApp, list[Client], RequestCounters]:
        slow, counts = SlowApp(), RequestCounters()
        cached = CacheMiddleware(slow, Snapshots(), 1000)  # type: ignore[arg-type]  # a stand-in
        app = RequestCountingMiddleware(DisconnectMiddleware(cached), counts, [])
        clients = [Client(method), Client(method)]
        requests = [
            asyncio.ensure_future(app(client.scope, client.receive, client.send))
            for client in clients
        ]
        await slow.has_begun.wait()
        for position in leaving:
            clients[position].leaves.set()
            await requests[position]
        slow.may_answer.set()
        await asyncio.gather(*requests)
        return slow, clients, counts

    return asyncio.run(asyncio.wait_for(run(), HANG_S))


def test_an_answer_is_not_computed_when_all_clients_have_left() -> None:
    slow, clients, counts = asked("GET", [0, 1])
    assert slow.ends == ["cancelled"]
    assert [client.messages for client in clients] == [[], []]
    assert dict(counts.response_counts) == {("GET", "none", "499"): 2}


def test_a_query_of_a_client_that_left_is_cancelled() -> None:
    slow, clients, _ = asked("POST", [0])
    assert slow.ends == ["cancelled", "answered"]
    assert clients[1].messages[-1]["body"] == b"rows"
