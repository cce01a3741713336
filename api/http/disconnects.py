"""Cancels the work for a client that has left."""

import asyncio
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class DisconnectMiddleware:
    """ASGI middleware that cancels a request when its connection closes.

    The process of a query then ends, and a chart that waits for its turn is not drawn. Work that
    already runs in a thread runs to its end.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        messages: asyncio.Queue[Message] = asyncio.Queue(1)

        async def forward() -> None:
            while (message := await receive())["type"] != "http.disconnect":
                await messages.put(message)

        reading = asyncio.ensure_future(forward())
        answering = asyncio.ensure_future(self.app(scope, messages.get, send))
        try:
            await asyncio.wait({reading, answering}, return_when=asyncio.FIRST_COMPLETED)
            if answering.done():
                answering.result()
        finally:
            for task in (reading, answering):
                task.cancel()
                with suppress(Exception, asyncio.CancelledError):
                    await task
