"""Malformed and unfinished requests never reach the app; they get the same JSON error."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .problems import error_response
from .security import SECURITY_HEADERS

RECEIVE_SECONDS = 20.0
"""A client has this long to send a request, header and body; a slower one is cut off."""


class JsonErrorProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a JSON error for malformed requests, and a limit for slow ones."""

    _deadline: asyncio.TimerHandle | None = None
    _has_begun = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Start the clock of the first request."""
        super().connection_made(transport)
        self._start_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_clock()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Start the clock of a later request; the clock of the first request runs already."""
        super().on_message_begin()
        self._has_begun = True
        if self._deadline is None:
            self._start_clock()

    def on_message_complete(self) -> None:
        """Stop the clock: the answer may take longer."""
        super().on_message_complete()
        self._has_begun = False
        self._stop_clock()

    def send_400_response(self, msg: str) -> None:
        """Answer and close the connection, because the start of the next request is unknown."""
        message = f"{msg} Use a method of HTTP in capitals, and headers of less than 64 KiB."
        self._refuse(400, "Bad Request", "bad_request", message)

    def _start_clock(self) -> None:
        self._deadline = self.loop.call_later(RECEIVE_SECONDS, self._cut_off)

    def _stop_clock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _cut_off(self) -> None:
        cycle: Any = self.cycle
        is_answering = cycle is not None and cycle.response_started and not cycle.response_complete
        if self._has_begun and not is_answering:
            message = f"the request was not complete after {RECEIVE_SECONDS:g} s"
            self._refuse(408, "Request Timeout", "request_timeout", message)
        else:
            self.transport.close()

    def _refuse(self, status: int, phrase: str, code: str, message: str) -> None:
        response = error_response(
            status, code, message, headers=SECURITY_HEADERS | {"Connection": "close"}
        )
        head = [f"HTTP/1.1 {status} {phrase}".encode()]
        head += [name + b": " + value for name, value in response.raw_headers]
        self.transport.write(b"\r\n".join([*head, b"", bytes(response.body)]))
        self.transport.close()
