"""The waits of a reader of the page, in Chromium."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from playwright.sync_api import Page, sync_playwright

from benchmarks.server.serving import Server, served
from benchmarks.versions import environment

# Resolves with the milliseconds until the change is shown: the status line names it, and no visible
# chart is busy. The first screen is a change of nothing. It scrolls to the charts, since a map of
# the runs may come first. An empty lake shows a message only.
SHOWN = """async ([name, value]) => {
  const status = document.querySelector("#status");
  const former = name ? status.textContent : "";
  const isShown = () => {
    const cards = [...document.querySelectorAll("[data-chart]")];
    cards[0]?.scrollIntoView();
    const seen = cards.filter((card) => card.getBoundingClientRect().top < innerHeight);
    const text = status.textContent;
    const problem = document.querySelector("#message .problem");
    if (problem) throw new Error(problem.textContent);
    if (text.includes("holds no runs")) return true;
    return text !== former && text.startsWith("Shown") && seen.length > 0 &&
      !seen.some((card) => card.hasAttribute("aria-busy"));
  };
  const began = performance.now();
  if (name) {
    const control = document.querySelector(`#${name}`);
    control.value = value;
    control.dispatchEvent(new Event("change", { bubbles: true }));
  }
  while (!isShown()) await new Promise((done) => setTimeout(done, 5));
  return name ? performance.now() - began : performance.now();
}"""

SELECTORS = ("level", "metric", "model")

FIRST_SCREEN: tuple[str, str] = ("", "")


@contextmanager
def new_reader(code: Path, lake: Path, log: Path) -> Iterator[tuple[Server, Page]]:
    """A new server of this version of the code, and a new browser that has not asked it yet."""
    with (
        served(lake, log, PYTHONPATH=environment(code)["PYTHONPATH"]) as server,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
        page.set_default_timeout(300_000)
        time.sleep(5)  # a server that waits for its first reader
        yield server, page
        browser.close()


def wait_s(server: Server, page: Page, change: tuple[str, str] = FIRST_SCREEN) -> float:
    """Seconds from the navigation, or from a change of a selector, until the page shows it."""
    if change == FIRST_SCREEN:
        page.goto(server.url)
    return float(page.evaluate(SHOWN, list(change))) / 1e3


def page_costs(code: Path, lake: Path, log: Path) -> dict[str, float]:
    """Costs of the first screen of a new server, and of each selector's first other value.

    Elapsed seconds since the navigation or the change, and CPU seconds of server and browser.
    """
    costs: dict[str, float] = {}
    with new_reader(code, lake, log) as (server, page):

        def take(task: str, change: tuple[str, str]) -> None:
            before = _cpu_seconds(server.pid)
            costs[f"page, {task}: elapsed"] = wait_s(server, page, change)
            costs[f"page, {task}: CPU"] = _cpu_seconds(server.pid) - before

        take("first screen of a new server", FIRST_SCREEN)
        for name in SELECTORS:
            others = page.locator(f"#{name} option:not(:checked)")
            if others.count():
                take(f"another {name}", (name, others.first.get_attribute("value") or ""))
    return costs


def _cpu_seconds(server: int) -> float:
    """CPU seconds of the server, and of the browser below this process, up to now."""
    family = [
        p
        for root in (psutil.Process(server), psutil.Process())
        for p in (root, *root.children(recursive=True))
    ]
    return sum(sum(p.cpu_times()[:2]) for p in set(family))
