"""A client of the API over a lake, in this process."""

from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from prunelake.api.app import create_app
from prunelake.api.settings import ApiSettings


def api_client(
    lake: Path, caller: str = "127.0.0.1", host: str = "127.0.0.1", **settings: Any
) -> TestClient:
    """A client at the address `caller` that asks for `host`; `settings` are those of the API.

    By default SQL is off, since its workers take time to start.
    """
    app = create_app(lake, ApiSettings(**{"sql": False} | settings))
    return TestClient(
        app, base_url=f"http://{host}", client=(caller, 50000), raise_server_exceptions=False
    )
