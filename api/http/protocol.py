"""What is no HTTP never reaches the app; it is told so in the one shape, too."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .problems import error_response
from .security import SECURITY_HEADERS


class JsonErrorProtocol(HttpToolsProtocol):
    """uvicorn's own, but for the answer to what it cannot read."""

    def send_400_response(self, msg: str) -> None:
        """Answer and hang up: where the next request would begin is unknown."""
        told = f"{msg} Methods are those of HTTP in capitals, and headers have less than 64 KiB."
        response = error_response(
            400, "bad_request", told, headers=SECURITY_HEADERS | {"Connection": "close"}
        )
        head = [b"HTTP/1.1 400 Bad Request"]
        head += [name + b": " + value for name, value in response.raw_headers]
        self.transport.write(b"\r\n".join([*head, b"", bytes(response.body)]))
        self.transport.close()
