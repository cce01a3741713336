"""A lake, a server and a browser that the tests of the page share."""

import shutil
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.support.page.page_lake import PageLake
from tests.support.page.page_reader import (
    CHROMIUM_ARGUMENTS,
    PageReader,
    page_reader,
    running_server,
)


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> PageLake:
    return PageLake(tmp_path_factory.mktemp("lake"))


@pytest.fixture(scope="session")
def address(runs: PageLake) -> Iterator[str]:
    with running_server(runs.lake) as address:
        yield address


_open_browsers = ExitStack()


@pytest.fixture(scope="session")
def browser() -> Browser:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium: apt-get install chromium")
    playwright = _open_browsers.enter_context(sync_playwright())
    browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGUMENTS)
    _open_browsers.callback(browser.close)
    return browser


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> Generator[None]:
    """Close the browser after the last test of this folder.

    While Playwright runs, nothing else can start an event loop in this thread.
    """
    yield
    if nextitem is None or Path(__file__).parent not in nextitem.path.parents:
        _open_browsers.close()


@pytest.fixture
def reader(browser: Browser, address: str) -> Iterator[PageReader]:
    with page_reader(browser, address) as reader:
        yield reader


@pytest.fixture
def chartless(reader: PageReader) -> PageReader:
    """A reader of a page without charts, which take longest to draw."""
    return reader.with_charts()
