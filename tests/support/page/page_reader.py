"""A server in a thread, and a browser that records errors and requests to other hosts."""

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

import httpx
import uvicorn
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Error,
    Locator,
    Page,
    Request,
    Response,
    Route,
    expect,
)
from pydantic import SecretStr

from prunelake.api.app import create_app
from prunelake.api.settings import ApiSettings
from tests.support.limits import HANG_S
from tests.support.paths import ROOT

ARTEFACTS = Path(os.environ.get("PRUNELAKE_ARTEFACTS") or ROOT / "artefacts")

# Without these, Chromium sends requests to other machines.
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# A busy machine may take half a minute to draw its first chart.
PATIENCE_MS = 60_000
expect.set_options(timeout=PATIENCE_MS)

FAILED_LOAD = re.compile(r"Failed to load resource: the server responded with a status of (\d+)")


@contextmanager
def running_server(lake: Path, token: str | None = None, with_sql: bool = False) -> Iterator[str]:
    """The address of a server of the lake, which runs within the block."""
    app = create_app(lake, ApiSettings(token=None if token is None else SecretStr(token)))
    # The lifespan of the app starts the workers for SQL.
    lifespan: Literal["on", "off"] = "on" if with_sql else "off"
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan=lifespan))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            thread.join(0.02)
            assert thread.is_alive(), "the server did not start"
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@dataclass
class PageReader:
    """A reader of the page; `requests` holds the paths, with parameters, that the page requested.

    `expected` holds the error statuses that a test expects. A chart may always have nothing to
    show.
    """

    context: BrowserContext
    page: Page
    address: str
    expected: set[int] = field(default_factory=set)
    requests: list[str] = field(default_factory=list)
    aborted: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    failures: list[tuple[int, str]] = field(default_factory=list)

    def open(self, search: str = "", until: str = "#tiles .tile") -> None:
        """Open the page and wait until it shows what the selector names."""
        self.page.goto(f"{self.address}/{search}")
        expect(self.page.locator(until).first).to_be_visible()

    def with_charts(self, *names: str) -> "PageReader":
        """The same reader of a page that lists only these charts: drawing takes longest."""

        def listed(route: Route) -> None:
            answer = route.fetch()
            if not answer.ok:
                route.fulfill(response=answer)
                return
            charts = [chart for chart in answer.json() if chart["name"] in names]
            route.fulfill(response=answer, json=charts)

        self.context.route("**/charts", listed)
        return self

    def choose(self, name: str, value: str) -> None:
        """Choose a value in a control, and wait until the page shows it."""
        self.page.locator(f"#{name}").select_option(value)
        self.settle()

    def settle(self) -> None:
        """Wait until the page shows the verdict and its numbers."""
        expect(self.page.locator("#tiles .tile").first).to_be_visible()
        expect(self.page.locator("#status")).to_contain_text("Shown")

    def see_all(self) -> None:
        """Scroll to each chart and to the examples, and wait for them."""
        for card in self.page.locator("[data-chart]").all():
            self.look_at(card)
        self.look_at(self.page.locator("#examples"))

    def look_at(self, part: Locator) -> None:
        """Scroll to a part of the page, and wait until it is loaded."""
        part.scroll_into_view_if_needed()
        expect(part).not_to_have_attribute("aria-busy", "true")

    def chart(self, name: str) -> Locator:
        """The card of a chart, loaded."""
        card = self.page.locator(f"[data-chart={name}]")
        self.look_at(card)
        return card

    def examples(self) -> Locator:
        """The section of examples, loaded."""
        section = self.page.locator("#examples")
        self.look_at(section)
        return section

    def url_parameters(self) -> dict[str, str]:
        """The parameters in the address of the page."""
        return dict(parse_qsl(urlsplit(self.page.url).query))

    def api_answer(self, path: str, **parameters: Any) -> Any:
        """The JSON that the API answers, without the page."""
        answer = httpx.get(self.address + path, params=parameters, timeout=HANG_S)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def requests_for(self, path: str) -> list[str]:
        """The requests whose path starts with `path`."""
        return [request for request in self.requests if request.startswith(path)]

    def save_screenshot(self, name: str, full_page: bool = True) -> None:
        """Save a picture of the page for people."""
        ARTEFACTS.mkdir(parents=True, exist_ok=True)
        self.page.evaluate("scrollTo(0, 0)")
        self.page.screenshot(path=ARTEFACTS / f"{name}.png", full_page=full_page)

    def check(self) -> None:
        """Assert that the page had no error, no other host and no unexpected error status."""
        assert self.errors == []
        for status, url in self.failures:
            if status not in self.expected:
                assert (status, error_code(url)) == (404, "nothing_to_show"), (status, url)


def error_code(url: str) -> str:
    """The error code in the answer of an address."""
    code: str = httpx.get(url, timeout=HANG_S).json()["error"]["code"]
    return code


@contextmanager
def page_reader(browser: Browser, address: str, **options: Any) -> Iterator[PageReader]:
    """A reader in a new browser context, checked at the end."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | options)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    reader = PageReader(context, page, address)

    def only_here(route: Route) -> None:
        if route.request.url.startswith((f"{reader.address}/", "blob:", "data:")):
            route.continue_()
        else:
            reader.errors.append(f"requested another host: {route.request.url}")
            route.abort()

    def requested(request: Request) -> None:
        parts = urlsplit(request.url)
        reader.requests.append(f"{parts.path}?{parts.query}".rstrip("?"))

    def failed(request: Request) -> None:
        reader.aborted.append(urlsplit(request.url).path)

    def answered(response: Response) -> None:
        if response.status >= 400:
            reader.failures.append((response.status, response.url))

    def said(message: ConsoleMessage) -> None:
        # Browsers log each error status; `failures` holds them.
        if message.type in ("error", "warning") and not FAILED_LOAD.match(message.text):
            reader.errors.append(f"console {message.type}: {message.text}")

    def broke(error: Error) -> None:
        reader.errors.append(f"page error: {error}")

    context.route("**/*", only_here)
    page.on("request", requested)
    page.on("requestfailed", failed)
    page.on("response", answered)
    page.on("console", said)
    page.on("pageerror", broke)
    try:
        yield reader
        reader.check()
    finally:
        context.close()
