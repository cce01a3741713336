"""Malformed requests never reach the app; they get the same JSON error."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .problems import error_response
from .security import SECURITY_HEADERS


class JsonErrorProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a JSON error for malformed requests."""

    def send_400_response(self, msg: str) -> None:
        """Answer and close the connection, because the start of the next request is unknown."""
        message = f"{msg} Use a method of HTTP in capitals, and headers of less than 64 KiB."
        response = error_response(
            400, "bad_request", message, headers=SECURITY_HEADERS | {"Connection": "close"}
        )
        head = [b"HTTP/1.1 400 Bad Request"]
        head += [name + b": " + value for name, value in response.raw_headers]
        self.transport.write(b"\r\n".join([*head, b"", bytes(response.body)]))
        self.transport.close()
