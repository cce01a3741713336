"""The page for keyboards, phones and screen readers, and with servers that fail or change."""

from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Route, expect

from prunelake.analysis.analyse import analyse
from prunelake.lake.publish import publish
from tests.support.limits import HANG_S
from tests.support.page.page_lake import BETA, PageLake, created_on, flipping_run
from tests.support.page.page_reader import PageReader, page_reader, running_server
from tests.support.runs.example_runs import explained_run


def test_the_keyboard_alone_changes_the_run_and_opens_an_example(
    chartless: PageReader,
) -> None:
    chartless.open()
    page = chartless.page

    def tab_to(selector: str) -> None:
        for _ in range(120):
            page.keyboard.press("Tab")
            if page.evaluate("s => document.activeElement.matches(s)", selector):
                return
        pytest.fail(f"no way to {selector} by the Tab key")

    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    expect(page.locator(".skip")).to_be_in_viewport()
    tab_to("#model")
    page.keyboard.press("ArrowDown")
    expect(page.locator("#subject")).to_contain_text(BETA)
    expect(page.locator("#model")).to_be_focused()
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("ArrowUp")
    expect(page.locator("#subject")).to_contain_text("hub:org/alpha")
    chartless.settle()
    tab_to("a[href='#examples']")
    page.keyboard.press("Enter")
    tab_to("#list button")
    page.keyboard.press("ArrowDown")
    expect(page.locator("[data-example='test:1']")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#example h3")).to_have_text("Example test:1")
    expect(page.locator("[data-example='test:1']")).to_have_attribute("aria-current", "true")
    expect(page.locator("[data-example='test:1']")).to_be_focused()
    tab_to("[data-side=unpruned] .token")
    page.keyboard.press("End")
    expect(page.locator("[data-side=unpruned] .readout")).to_contain_text("“?”: +0.100 for “")
    # Tab moves on through the rest of the page: nothing traps the focus.
    tab_to("[data-side=pruned] .token")
    tab_to("body, .skip")


def test_on_a_phone_nothing_is_wider_than_the_screen(
    browser: Browser, address: str, runs: PageLake
) -> None:
    with page_reader(browser, address, viewport={"width": 320, "height": 740}) as reader:
        reader.open(f"?run={runs.explained}")
        reader.see_all()
        reader.page.locator("#all-metrics summary").click()
        reader.chart("reliability").locator("summary").click()
        assert reader.page.evaluate("document.documentElement.scrollWidth") <= 320
        # A picture that shrinks makes its letters smaller than they were drawn: 10 px.
        shares = reader.page.locator("img.picture").evaluate_all(
            "all => all.map(one => one.clientWidth / one.naturalWidth)"
        )
        assert len(shares) > 5
        assert min(shares) > 0.99
        papers = reader.page.locator(".paper").evaluate_all(
            "all => all.map(one => one.scrollWidth - one.clientWidth)"
        )
        assert max(papers) == 0
        reader.save_screenshot("page-phone")
        reader.choose("model", "beta")
        reader.choose("task", "stories")
        reader.examples()
        assert reader.page.evaluate("document.documentElement.scrollWidth") <= 320


def test_the_theme_follows_the_system_unless_it_is_chosen(
    browser: Browser, address: str, runs: PageLake
) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    with page_reader(browser, address, color_scheme="dark") as reader:
        reader.with_charts("confidence", "reliability", "flips").open(f"?run={runs.explained}")
        assert reader.page.evaluate(paper) == "rgb(23, 24, 27)"
        reader.chart("confidence")
        assert "theme=dark" in reader.requests_for("/charts/confidence.json")[-1]
        reader.save_screenshot("page-dark", full_page=False)
        reader.choose("theme", "light")
        reader.chart("confidence")
        assert "theme" not in reader.requests_for("/charts/confidence.json")[-1]
        assert reader.page.evaluate(paper) == "rgb(255, 255, 255)"
        assert reader.url_parameters()["theme"] == "light"
        reader.choose("theme", "")
        assert "theme" not in reader.url_parameters()
        reader.page.emulate_media(color_scheme="light")
        expect(reader.page.locator("body")).to_have_css("background-color", "rgb(255, 255, 255)")


def test_headings_are_in_order_and_everything_has_a_name(
    reader: PageReader, runs: PageLake
) -> None:
    reader.open(f"?run={runs.explained}")
    reader.see_all()
    levels = reader.page.locator("h1, h2, h3, h4").evaluate_all(
        "all => all.filter(h => h.checkVisibility()).map(h => Number(h.tagName[1]))"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    for control in reader.page.locator("select").all():
        assert control.evaluate("select => select.labels.length") == 1
    for picture in reader.page.locator("img").all():
        assert len(str(picture.get_attribute("alt"))) > 20
    for button in reader.page.locator("button, a").all():
        assert str(button.text_content()).strip()


TOKEN = "a secret of the server"


def test_a_token_is_asked_for_and_kept_for_the_tab(
    browser: Browser, runs: PageLake, tmp_path: Path
) -> None:
    with running_server(runs.lake, TOKEN) as address, page_reader(browser, address) as reader:
        reader.expected.add(401)
        reader.with_charts("confidence").open(until="#token")
        expect(reader.page.locator("#content")).to_be_hidden()
        expect(reader.page.locator("#token")).to_be_focused()
        reader.save_screenshot("page-token")
        reader.page.locator("#token").fill("a guess")
        reader.page.keyboard.press("Enter")
        expect(reader.page.get_by_role("alert")).to_contain_text("does not accept this token")
        reader.page.locator("#token").fill(TOKEN)
        reader.page.keyboard.press("Enter")
        reader.settle()
        card = reader.chart("confidence")
        expect(card.locator("img")).to_be_visible()
        with reader.page.expect_download() as download:
            card.get_by_role("link", name="PNG").click()
        download.value.save_as(tmp_path / "chart.png")
        assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")
        reader.page.reload()
        reader.settle()
        assert TOKEN not in reader.page.url
        assert reader.page.evaluate("localStorage.length + document.cookie.length") == 0
        refused = len(reader.failures)
        reader.page.evaluate("sessionStorage.clear()")
        reader.page.reload()
        expect(reader.page.locator("#token")).to_be_visible()
        assert len(reader.failures) > refused


def test_an_error_of_the_server_is_shown_in_words(reader: PageReader) -> None:
    def fails(route: Route) -> None:
        body = {"error": {"code": "limit_exceeded", "message": "too long; ask less", "choices": []}}
        route.fulfill(status=422, json=body)

    reader.expected.add(422)
    reader.context.route("**/findings?*", fails)
    reader.with_charts("reliability").open(until="#message .problem")
    expect(reader.page.locator("#message p")).to_have_text("Too long; ask less.")
    reader.context.unroute("**/findings?*", fails)
    reader.context.route("**/charts/reliability.json?*", fails)
    reader.page.get_by_role("button", name="Try again").click()
    reader.settle()
    expect(reader.page.locator("#message")).to_be_empty()
    card = reader.chart("reliability")
    expect(card.locator(".problem p")).to_have_text("Too long; ask less.")
    reader.context.unroute("**/charts/reliability.json?*", fails)
    card.get_by_role("button", name="Try again").click()
    expect(card.locator("img")).to_be_visible()


def test_a_lost_server_is_reported(browser: Browser, runs: PageLake) -> None:
    with running_server(runs.lake) as address, page_reader(browser, address) as reader:
        reader.with_charts().open()
        reader.context.route("**/findings?*", lambda route: route.abort("connectionrefused"))
        reader.page.locator("#task").select_option("reviews")
        expect(reader.page.locator("#message .problem")).to_contain_text("does not answer")
        expect(reader.page.locator("#content")).to_be_hidden()
        reader.errors = [fault for fault in reader.errors if "ERR_CONNECTION" not in fault]


def test_an_empty_lake_names_the_commands_that_fill_it(browser: Browser, tmp_path: Path) -> None:
    with running_server(tmp_path) as address, page_reader(browser, address) as reader:
        reader.expected.add(503)
        reader.open(until="#message .problem")
        expect(reader.page.locator("#message code")).to_have_text("prunelake publish")
        (tmp_path / "runs").mkdir()
        publish(tmp_path, analyse)
        reader.page.get_by_role("button", name="Try again").click()
        expect(reader.page.locator("#message")).to_contain_text("The lake holds no runs yet")
        expect(reader.page.locator("#message code").first).to_have_text("prunelake demo")
        expect(reader.page.locator("#controls")).to_be_hidden()


def test_a_new_publication_updates_the_page(browser: Browser, tmp_path: Path) -> None:
    explained_run(tmp_path, "first", task="questions", **created_on(1))
    publish(tmp_path, analyse)
    with running_server(tmp_path) as address, page_reader(browser, address) as reader:
        reader.with_charts().open()
        assert reader.page.locator("#task option").all_text_contents() == ["questions"]
        flipping_run(tmp_path, "second", task="stories", **created_on(2))
        publish(tmp_path, analyse)
        reader.page.locator("#level").select_option("2")
        expect(reader.page.locator("#message .notice")).to_contain_text("published again")
        assert reader.page.locator("#task option").all_text_contents() == ["questions", "stories"]
        reader.settle()
        expect(reader.page.locator("#footer")).to_contain_text("of 2 runs")
        assert reader.url_parameters()["level"] == "2"


def test_the_page_never_mixes_files_of_two_versions(address: str) -> None:
    answer = httpx.get(f"{address}/page/page.js", timeout=HANG_S)
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["content-type"].startswith("text/javascript")
    kept = httpx.get(
        f"{address}/page/page.js", headers={"If-None-Match": answer.headers["etag"]}, timeout=HANG_S
    )
    assert kept.status_code == 304
