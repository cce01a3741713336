"""One Prefect server for all tests of flows in a process."""

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    PREFECT_SERVER_DATABASE_CONNECTION_URL,
    temporary_settings,
)

from tests.support.limits import HANG_S


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> Generator[None]:
    """Stop the server after the last test of this folder: it is busy even without requests."""
    yield
    if nextitem is None or Path(__file__).parent not in nextitem.path.parents:
        from prefect.server.api.server import SubprocessASGIServer

        SubprocessASGIServer().stop()


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Prefect server of this test process, with a database of its own."""
    # Its import takes seconds, and every test process collects this file.
    from prefect.server.api.server import SubprocessASGIServer

    database: Path = tmp_path_factory.mktemp("prefect") / "prefect.db"
    with temporary_settings(
        {
            PREFECT_SERVER_DATABASE_CONNECTION_URL: f"sqlite+aiosqlite:///{database}",
            PREFECT_SERVER_ANALYTICS_ENABLED: False,
        }
    ):
        server = SubprocessASGIServer()
        server.start(timeout=int(HANG_S))
    yield server.api_url
    server.stop()


@pytest.fixture(scope="module")
def prefect(prefect_server: str) -> Iterator[str]:
    """Let the flows of a module report to the server; its address."""
    with temporary_settings({PREFECT_API_URL: prefect_server}):
        yield prefect_server
        APILogWorker.instance().drain()
        EventsWorker.drain_all()
