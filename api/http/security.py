"""Admits clients with the token or, without a token, this machine; adds security headers."""

import hmac
import re
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

from pydantic import SecretStr
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from prunelake.errors import AccessDenied

from .first_screen import OWN_REQUEST
from .problems import error_response, response_to

PUBLIC_PATHS = ("/", "/health")
"""Paths that need no token, besides the page's files: the page asks its reader for the token."""

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
"""Headers of every answer; a route may set its own Content-Security-Policy."""

HOST = re.compile(r"((\[[0-9A-Fa-f:.]+\]|[\w.~-]+)(:[0-9]{0,5})?)?", re.ASCII)
"""The value of a header Host: a name or an address, and a port; HTTP/1.0 may leave it out."""


class SecurityMiddleware:
    """ASGI middleware that refuses other clients and adds `SECURITY_HEADERS`.

    A malformed header Host is refused: nothing behind it could write the address of the request.

    Without a token, the server answers only localhost, and only requests to a name of localhost.
    Otherwise another site could point its own name to this machine (DNS rebinding) and read the
    answers.
    """

    def __init__(self, app: ASGIApp, token: SecretStr | None) -> None:
        self.app = app
        self.token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or OWN_REQUEST in scope:
            await self.app(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        headers = Headers(scope=scope)
        host = host_name(headers.get("host", ""))
        if host is None:
            message = (
                f"Host: {headers['host']!r} is malformed; send a name or an address, and a port"
            )
            await error_response(400, "bad_request", message)(scope, receive, send_safely)
            return
        reason = self._rejection_reason(scope, headers, host)
        if reason is None:
            await self.app(scope, receive, send_safely)
        else:
            await response_to(AccessDenied(reason))(scope, receive, send_safely)

    def _rejection_reason(self, scope: Scope, headers: Headers, host: str) -> str | None:
        if self.token is None:
            client = scope.get("client")
            if client is None or not is_loopback(client[0]):
                return "only this machine is served; set PRUNELAKE_API_TOKEN to admit other clients"
            if not is_loopback(host):
                return "use the name localhost or 127.0.0.1, or set PRUNELAKE_API_TOKEN"
            return None
        if scope["path"] in PUBLIC_PATHS or scope["path"].startswith("/page/"):
            return None
        scheme, _, given = headers.get("authorization", "").partition(" ")
        expected = self.token.get_secret_value()
        # The comparison takes the same time for all wrong tokens.
        sent = given.strip().encode("latin-1")
        is_right = hmac.compare_digest(sent, expected.encode())
        if scheme.lower() == "bearer" and is_right:
            return None
        return "send the server's token: Authorization: Bearer TOKEN"


# Almost all requests name the same host.
@lru_cache
def host_name(header: str) -> str | None:
    """The name or address in a header Host, in lower case; None if the header is malformed."""
    if not HOST.fullmatch(header):
        return None
    try:
        parts = urlsplit(f"//{header}")
        _ = parts.port  # raises for ports that do not exist
    except ValueError:
        return None
    return parts.hostname or ""


@lru_cache
def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
