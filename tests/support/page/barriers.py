"""The findings of axe-core on a page: barriers for readers with a keyboard or a screen reader."""

from importlib.resources import files

from playwright.sync_api import Page


def barriers(page: Page) -> list[str]:
    """Each violation, with the places where it is."""
    page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate("() => axe.run()")["violations"]
    return [f"{one['id']}: {[node['target'] for node in one['nodes']]}" for one in found]
