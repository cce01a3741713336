"""Connections whose request never becomes complete are closed; slow answers are not."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from prunelake.api.http import protocol
from tests.support.limits import HANG_S

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def slow_echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the body, after longer than a client has for its request."""
    assert scope["type"] == "http"
    message = await receive()
    await asyncio.sleep(4 * protocol.RECEIVE_SECONDS)
    body = message["body"]
    length = str(len(body)).encode()
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]}
    )
    await send({"type": "http.response.body", "body": body})


def talk(dialogue: Callable[[Connection], Awaitable[bytes]]) -> bytes:
    """A dialogue with a server on a socket."""

    async def run() -> bytes:
        config = uvicorn.Config(
            slow_echo, http=protocol.JsonErrorProtocol, port=0, lifespan="off", log_level="error"
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        connection = await asyncio.open_connection("127.0.0.1", port)
        try:
            return await dialogue(connection)
        finally:
            connection[1].close()
            server.should_exit = True
            await serving

    return asyncio.run(asyncio.wait_for(run(), HANG_S))


@pytest.fixture(autouse=True)
def short_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "RECEIVE_SECONDS", 0.1)


@pytest.mark.parametrize(
    "begin",
    [
        b"GET / HTTP/1.1\r\nHost: local",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf",
    ],
)
def test_an_unfinished_request_is_refused_and_closed(begin: bytes) -> None:
    async def dialogue(connection: Connection) -> bytes:
        connection[1].write(begin)
        return await connection[0].read()  # until the server closes

    head, _, body = talk(dialogue).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert b"connection: close" in head.lower()
    error = json.loads(body)["error"]
    assert (error["code"], "0.1 s" in error["message"]) == ("request_timeout", True)


def test_a_silent_connection_is_closed_without_an_answer() -> None:
    async def dialogue(connection: Connection) -> bytes:
        return await connection[0].read()

    assert talk(dialogue) == b""


def test_a_slow_answer_is_sent_and_a_second_request_has_its_own_time() -> None:
    whole = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nok"

    async def dialogue(connection: Connection) -> bytes:
        connection[1].write(whole)
        first = await connection[0].readuntil(b"ok")
        connection[1].write(whole)
        second = await connection[0].readuntil(b"ok")
        connection[1].write(whole[:9])
        return first + second + await connection[0].read()

    answers = talk(dialogue)
    assert answers.count(b"HTTP/1.1 200 OK") == 2
    assert answers.count(b"HTTP/1.1 408 Request Timeout") == 1
