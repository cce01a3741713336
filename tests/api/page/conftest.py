"""A lake, a server and a browser that the tests of the page share."""

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.support.page_lake import PageLake
from tests.support.page_reader import CHROMIUM_ARGUMENTS, PageReader, page_reader, running_server


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> PageLake:
    return PageLake(tmp_path_factory.mktemp("lake"))


@pytest.fixture(scope="session")
def address(runs: PageLake) -> Iterator[str]:
    with running_server(runs.lake) as address:
        yield address


# Not for the session: while Playwright runs, nothing else can start an event loop in this thread.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def reader(browser: Browser, address: str) -> Iterator[PageReader]:
    with page_reader(browser, address) as reader:
        yield reader


@pytest.fixture
def chartless(reader: PageReader) -> PageReader:
    """A reader of a page without charts, which take longest to draw."""
    return reader.with_charts()
