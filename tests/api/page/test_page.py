import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, Route, expect, sync_playwright

from api.findings.wording import MINUS
from prunelake.analysis.analyse import analyse
from prunelake.lake.publish import publish
from tests.support.example_runs import explained_run
from tests.support.lake_rows import rows_of
from tests.support.page_lake import BETA, PageLake, created_on, flipping_run
from tests.support.page_reader import CHROMIUM_ARGUMENTS, PageReader, page_reader, running_server

TOKEN = "a secret of the server"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> PageLake:
    return PageLake(tmp_path_factory.mktemp("lake"))


@pytest.fixture(scope="module")
def address(runs: PageLake) -> Iterator[str]:
    with running_server(runs.lake) as address:
        yield address


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
    """For what is not about charts."""
    return reader.with_charts()


def signed(value: float) -> str:
    """A score as the page shows it."""
    return f"{value:+.3f}".replace("-", MINUS) if round(value, 3) else "0.000"


def api(reader: PageReader, path: str, **parameters: Any) -> Any:
    answer = httpx.get(reader.address + path, params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_it_opens_with_the_latest_run_and_its_verdict_in_words(
    reader: PageReader, runs: PageLake
) -> None:
    reader.open()
    said = api(reader, "/findings", run_id=runs.explained)
    assert reader.url_parameters()["run"] == runs.explained
    expect(reader.page.locator("#outline")).to_have_text(f"{said['outline']}.")
    paragraphs = reader.page.locator("#words p").all_text_contents()
    assert paragraphs == [
        *said["sentences"],
        *(f"Mind: {warning}" for warning in said["warnings"]),
        said["caveat"],
    ]
    assert reader.page.title() == f"alpha, questions, level {said['level']} · PruneLake"
    reader.see_all()
    reader.save_screenshot("page-desktop")


def test_what_makes_the_numbers_say_less_stands_out(chartless: PageReader, runs: PageLake) -> None:
    chartless.open(f"?run={runs.explained}")
    warnings = api(chartless, "/findings", run_id=runs.explained)["warnings"]
    shown = chartless.page.locator("#words .warning").all_text_contents()
    assert warnings
    assert shown == [f"Mind: {warning}" for warning in warnings]


def test_the_words_are_about_the_level_that_is_chosen(
    chartless: PageReader, runs: PageLake
) -> None:
    said = {
        level: api(chartless, "/findings", run_id=runs.explained, level=level)["sentences"]
        for level in (1, 2)
    }
    assert said[1] != said[2]
    words = chartless.page.locator("#words p")
    for level in (2, 1):
        chartless.open(f"?run={runs.explained}&level={level}")
        assert words.all_text_contents()[: len(said[level])] == said[level]
    chartless.page.get_by_label("Layers removed").select_option("2")
    expect(words.nth(len(said[2]) - 1)).to_have_text(said[2][-1])


def test_the_numbers_are_those_of_the_lake(chartless: PageReader, runs: PageLake) -> None:
    chartless.open(f"?run={runs.judged}&level=1&metric=ece")
    ((before, after, verdict),) = (
        tuple(row.values())
        for row in rows_of(
            runs.lake,
            f"""
            select d.unpruned_value, d.value, v.verdict
            from deltas as d inner join verdicts as v using (run_id, level, metric)
            where
                run_id = '{runs.judged}' and level = 1 and metric = 'ece' and d.variant is null
            """,
        )
    )
    tile = chartless.page.locator("[data-metric=ece]")
    expect(tile.locator(".values")).to_have_text(f"{before:.3f}unpruned→{after:.3f}level 1")
    expect(tile.locator(".badge")).to_have_text(verdict)
    assert verdict == "hidden degradation"
    expect(chartless.page.locator("[data-metric=accuracy] .badge")).to_have_text("equivalent")


def test_every_metric_of_the_level_is_in_the_table(chartless: PageReader, runs: PageLake) -> None:
    chartless.open(f"?run={runs.explained}&level=2")
    chartless.page.locator("#all-metrics summary").click()
    rows = chartless.page.locator("#all-metrics tbody tr")
    metrics = api(chartless, "/findings", run_id=runs.explained)["metrics"]
    assert rows.count() >= len(metrics) > 10
    # The headline explanation is KernelSHAP's, not LIME's beside it: 0.5 - 2 * 0.125.
    row = rows.filter(has=chartless.page.get_by_text("Comprehensiveness", exact=True))
    assert row.locator("td").nth(0).text_content() == "0.500"
    assert row.locator("td").nth(1).text_content() == "0.250"


def test_another_model_and_task_change_verdict_charts_examples_and_address(
    reader: PageReader, runs: PageLake
) -> None:
    reader.with_charts("confidence").open()
    before = reader.chart("confidence").locator("img").get_attribute("alt")
    expect(reader.examples().locator("ol button")).to_have_count(4)
    reader.choose("model", "beta")
    expect(reader.page.locator("#subject")).to_have_text(f"{BETA}, questions, cosine order")
    reader.choose("task", "stories")
    said = api(reader, "/findings", run_id=runs.flipping)
    expect(reader.page.locator("#outline")).to_have_text(f"{said['outline']}.")
    after = reader.chart("confidence").locator("img").get_attribute("alt")
    assert after != before
    expect(reader.examples().locator("ol button")).to_have_count(3)
    assert reader.url_parameters() == {
        "model": "beta",
        "task": "stories",
        "strategy": "cosine",
        "run": runs.flipping,
    }


def test_of_several_runs_that_fit_one_can_be_chosen(chartless: PageReader, runs: PageLake) -> None:
    chartless.open("?model=alpha&task=questions&strategy=cosine")
    choices = chartless.page.locator("#run option")
    values = [option.get_attribute("value") for option in choices.all()]
    assert values == [runs.explained, runs.older]
    expect(choices.nth(1)).to_contain_text("2026-01-01 00:00, 4 examples, kernel_shap")
    chartless.choose("run", runs.older)
    assert chartless.url_parameters()["run"] == runs.older
    chartless.choose("strategy", "random")
    assert chartless.url_parameters()["run"] == runs.random
    expect(chartless.page.locator("#run")).to_be_hidden()


def test_another_level_asks_only_for_what_depends_on_it(reader: PageReader, runs: PageLake) -> None:
    reader.open(f"?run={runs.explained}&level=1")
    reader.see_all()
    reader.requests.clear()
    reader.choose("level", "2")
    reader.see_all()
    takes = {chart["name"] for chart in api(reader, "/charts") if "level" in chart["takes"]}
    again = {urlsplit(request).path.split("/")[2] for request in reader.requests_for("/charts/")}
    assert {name.partition(".")[0] for name in again} == takes
    assert reader.requests_for("/models") == []
    assert len(reader.requests_for("/findings")) == 1
    assert "level=2" in reader.requests_for(f"/examples/{runs.explained}")[0]
    assert reader.url_parameters()["level"] == "2"


def test_charts_are_asked_for_when_they_come_near(reader: PageReader, runs: PageLake) -> None:
    names = [chart["name"] for chart in api(reader, "/charts")]
    reader.open(f"?run={runs.explained}")
    reader.chart(names[0])
    assert not [request for request in reader.requests if f"/charts/{names[-1]}.svg" in request]
    assert reader.requests_for("/examples/") == []
    reader.chart(names[-1])
    reader.examples()
    assert reader.requests_for(f"/examples/{runs.explained}")


def test_an_example_stands_side_by_side_with_the_numbers_of_the_lake(
    chartless: PageReader, runs: PageLake
) -> None:
    chartless.open(f"?run={runs.flipping}&level=1&example=test:0")
    section = chartless.examples()
    for side, level in (("unpruned", 0), ("pruned", 1)):
        card = section.locator(f"[data-side={side}]")
        key = f"run_id = '{runs.flipping}' and example_id = 'test:0' and level = {level}"
        (row,) = rows_of(runs.lake, f"select confidence, is_correct from predictions where {key}")
        expect(card.locator(".confidence strong")).to_have_text(f"{row['confidence']:.3f}")
        expect(card.locator(".badge")).to_have_text("✓ right" if level == 0 else "✗ wrong")
        assert row["is_correct"] == (level == 0)
        scores = rows_of(
            runs.lake,
            f"""
            select avg(scores[i]) as score
            from attributions cross join range(1, 7) as positions (i)
            where {key}
            group by i
            order by i
            """,
        )
        titles = [token.get_attribute("title") for token in card.locator(".token").all()]
        assert titles == [signed(row["score"]) for row in scores]
        assert titles[1] == f"{MINUS}0.500"
    expect(section.locator(".about")).to_contain_text("Right answer: “no”")
    expect(section.locator(".about .flip")).to_have_text("harmful flip")
    flips = [flip.text_content() for flip in section.locator("ol .flip").all()]
    assert flips == ["harmful flip", "beneficial flip"]
    chartless.save_screenshot("page-example")


def test_scores_are_told_apart_by_more_than_colour(chartless: PageReader, runs: PageLake) -> None:
    chartless.open(f"?run={runs.flipping}&level=1&example=test:0")
    tokens = chartless.examples().locator("[data-side=pruned] .token").all()
    style = "token => getComputedStyle(token).textDecorationLine + getComputedStyle(token)"
    lines = [token.evaluate(f"{style}.textDecorationStyle") for token in tokens]
    positive, negative, none = "underlinesolid", "underlinedashed", "nonesolid"
    assert lines == [positive, negative, positive, none, negative, none]
    # 0.25, -0.5, 0.5, 0, -0.125, 0: each relative to the largest of its side.
    strengths = [token.evaluate("token => token.style.cssText") for token in tokens]
    assert strengths == [f"--strength: {part};" for part in PARTS]


PARTS = ["0.500", "1.000", "1.000", "0.000", "0.250", "0.000"]


def test_another_method_explains_the_example(chartless: PageReader, runs: PageLake) -> None:
    chartless.open(f"?run={runs.explained}&example=test:1")
    chartless.examples().locator("#method").select_option("lime")
    expect(chartless.page.locator("#method")).to_have_value("lime")
    assert chartless.url_parameters()["method"] == "lime"
    # Of an example that it does not explain, the page says so.
    chartless.examples().locator("[data-example='test:3']").click()
    expect(chartless.page.locator("#example .notice")).to_have_text(
        "This example is not explained by lime."
    )
    chartless.expected.add(404)


def test_a_run_without_explanations_says_so_where_a_picture_would_be(
    reader: PageReader, runs: PageLake
) -> None:
    reader.with_charts("explanations").open(f"?run={runs.judged}")
    card = reader.chart("explanations")
    said = httpx.get(f"{reader.address}/charts/explanations.svg?run_id={runs.judged}").json()
    expect(card.locator(".paper")).to_have_text(
        f"{said['error']['message'][0].upper()}{said['error']['message'][1:]}."
    )
    expect(card.locator("img")).to_have_count(0)
    expect(card.locator(".links")).to_be_hidden()
    expect(reader.examples().locator("#example")).to_contain_text("holds no examples of this run")


def test_values_of_a_table_have_no_verdict(chartless: PageReader, runs: PageLake) -> None:
    chartless.open("?model=a+table")
    assert chartless.url_parameters()["run"] == runs.published
    expect(chartless.page.locator("[data-metric=ece] .badge")).to_have_count(0)
    expect(chartless.page.locator("[data-metric=ece]")).to_contain_text("not tested")
    expect(chartless.page.locator("#strategy option:checked")).to_have_text("not known")


def test_reload_and_a_shared_link_restore_everything(
    chartless: PageReader, runs: PageLake, browser: Browser
) -> None:
    chartless.open()
    chartless.choose("task", "reviews")
    chartless.choose("task", "questions")
    chartless.choose("level", "2")
    chartless.choose("metric", "nll")
    chartless.choose("theme", "dark")
    chartless.examples().locator("[data-example='test:1']").click()
    expect(chartless.page.locator("#example h3")).to_have_text("Example test:1")
    chartless.page.locator("#method").select_option("lime")
    expect(chartless.page.locator("#method")).to_have_value("lime")
    expected = {
        "model": "alpha",
        "task": "questions",
        "strategy": "cosine",
        "run": runs.explained,
        "level": "2",
        "metric": "nll",
        "example": "test:1",
        "method": "lime",
        "theme": "dark",
    }

    def shows_all(one: PageReader) -> None:
        one.settle()
        assert one.url_parameters() == expected
        for name in ("model", "task", "strategy", "run", "level", "metric", "theme"):
            expect(one.page.locator(f"#{name}")).to_have_value(expected[name])
        expect(one.page.locator("[data-metric=nll]")).to_be_visible()
        expect(one.examples().locator("h3")).to_have_text("Example test:1")
        expect(one.page.locator("#method")).to_have_value("lime")

    shows_all(chartless)
    chartless.page.reload()
    shows_all(chartless)
    with page_reader(browser, chartless.address) as another:
        another.with_charts().open(chartless.page.url.partition("/?")[2].join(("?", "")))
        shows_all(another)


def test_back_and_forward_go_through_what_was_shown(chartless: PageReader, runs: PageLake) -> None:
    chartless.open()
    chartless.choose("task", "reviews")
    chartless.choose("metric", "nll")
    chartless.page.go_back()
    expect(chartless.page.locator("#metric")).to_have_value("ece")
    expect(chartless.page.locator("#task")).to_have_value("reviews")
    chartless.page.go_back()
    expect(chartless.page.locator("#task")).to_have_value("questions")
    said = api(chartless, "/findings", run_id=runs.explained)
    expect(chartless.page.locator("#outline")).to_have_text(f"{said['outline']}.")
    chartless.page.go_forward()
    said = api(chartless, "/findings", run_id=runs.judged)
    expect(chartless.page.locator("#outline")).to_have_text(f"{said['outline']}.")
    assert chartless.url_parameters()["run"] == runs.judged


def test_what_a_link_names_in_vain_is_said(chartless: PageReader, runs: PageLake) -> None:
    chartless.open(f"?run={runs.judged}&level=17&metric=overlap_10")
    notices = chartless.page.locator("#message .notice").all_text_contents()
    level = api(chartless, "/findings", run_id=runs.judged)["level"]
    assert notices == [
        f"This run has no level 17; shown is {level}.",
        "This run has no metric Overlap 10; shown is ECE.",
    ]
    chartless.expected.add(404)
    chartless.open("?model=gamma", until="#message .problem")
    expect(chartless.page.locator("#message")).to_contain_text("No run of model 'gamma'")
    expect(chartless.page.locator("#message li").first).to_contain_text("a table, reviews")
    expect(chartless.page.locator("#content")).to_be_hidden()
    # From there the chartless can go on.
    chartless.choose("model", "beta")
    assert chartless.url_parameters()["run"] == runs.beta
    expect(chartless.page.locator("#message")).to_be_empty()


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
    # And on, past the rest of the page: nothing holds the focus.
    tab_to("[data-side=pruned] .token")
    tab_to("body, .skip")


def test_older_answers_never_stand_beside_newer_ones(reader: PageReader, runs: PageLake) -> None:
    reader.with_charts("confidence").open(f"?run={runs.explained}")
    reader.chart("confidence")
    held: list[Route] = []
    reader.context.route(f"**/findings?run_id={runs.beta}", lambda route: held.append(route))
    reader.page.locator("#model").select_option("beta")
    expect(reader.page.locator("#verdict")).to_have_attribute("aria-busy", "true")
    expect(reader.page.locator("#outline")).not_to_be_visible()
    expect(reader.page.locator("[data-chart=confidence] img")).not_to_be_visible()
    reader.page.locator("#task").select_option("stories")
    reader.settle()
    assert "/findings" in reader.aborted
    for route in held:
        route.continue_()
    said = api(reader, "/findings", run_id=runs.flipping)
    reader.settle()
    expect(reader.page.locator("#outline")).to_have_text(f"{said['outline']}.")
    assert reader.url_parameters()["run"] == runs.flipping


def test_every_chart_offers_its_files_link_and_sql(reader: PageReader, runs: PageLake) -> None:
    reader.context.grant_permissions(["clipboard-read", "clipboard-write"])
    reader.with_charts("reliability").open(f"?run={runs.explained}&level=2&theme=dark")
    card = reader.chart("reliability")
    kinds = {}
    for link in card.locator(".links a").all():
        answer = httpx.get(reader.address + str(link.get_attribute("href")))
        kinds[link.text_content()] = (answer.status_code, answer.headers["content-type"])
    assert kinds == {
        "SVG": (200, "image/svg+xml"),
        "PNG": (200, "image/png"),
        "Interactive": (200, "text/html; charset=utf-8"),
        "Data": (200, "application/json"),
    }
    card.get_by_role("button", name="Copy link").click()
    expect(card.locator("[role=status]")).to_contain_text("copied")
    copied = reader.page.evaluate("navigator.clipboard.readText()")
    assert copied == (
        f"{reader.address}/charts/reliability.svg?run_id={runs.explained}&level=2&theme=dark"
    )
    card.locator("summary").click()
    sql = str(card.locator("pre").text_content())
    ran = rows_of(runs.lake, sql)
    assert {row["level"] for row in ran} == {0, 2}
    spec = api(reader, "/charts/reliability.json", run_id=runs.explained, level=2)
    caption = next(
        chart["caption"] for chart in api(reader, "/charts") if chart["name"] == "reliability"
    )
    title = " ".join(spec["title"]["text"])
    assert str(card.locator("img").get_attribute("alt")).startswith(f"{caption} {title}")


def test_on_a_phone_nothing_is_wider_than_the_screen(
    browser: Browser, address: str, runs: PageLake
) -> None:
    with page_reader(browser, address, viewport={"width": 360, "height": 740}) as reader:
        reader.open(f"?run={runs.explained}")
        reader.see_all()
        reader.page.locator("#all-metrics summary").click()
        reader.chart("reliability").locator("summary").click()
        assert reader.page.evaluate("document.documentElement.scrollWidth") <= 360
        reader.save_screenshot("page-phone")
        reader.choose("model", "beta")
        reader.choose("task", "stories")
        reader.examples()
        assert reader.page.evaluate("document.documentElement.scrollWidth") <= 360


def test_the_theme_follows_the_system_unless_it_is_chosen(
    browser: Browser, address: str, runs: PageLake
) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    with page_reader(browser, address, color_scheme="dark") as reader:
        reader.with_charts("confidence", "reliability", "flips").open(f"?run={runs.explained}")
        assert reader.page.evaluate(paper) == "rgb(23, 24, 27)"
        reader.chart("confidence")
        assert "theme=dark" in reader.requests_for("/charts/confidence.svg")[-1]
        reader.save_screenshot("page-dark", full_page=False)
        reader.choose("theme", "light")
        reader.chart("confidence")
        assert "theme" not in reader.requests_for("/charts/confidence.svg")[-1]
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
        expect(reader.page.get_by_role("alert")).to_contain_text("does not take this token")
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
        refused = len(reader.refused)
        reader.page.evaluate("sessionStorage.clear()")
        reader.page.reload()
        expect(reader.page.locator("#token")).to_be_visible()
        assert len(reader.refused) > refused


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


def test_a_server_that_has_gone_is_told(browser: Browser, runs: PageLake) -> None:
    with running_server(runs.lake) as address, page_reader(browser, address) as reader:
        reader.with_charts().open()
        reader.context.route("**/findings?*", lambda route: route.abort("connectionrefused"))
        reader.page.locator("#task").select_option("reviews")
        expect(reader.page.locator("#message .problem")).to_contain_text("does not answer")
        expect(reader.page.locator("#content")).to_be_hidden()
        reader.errors = [fault for fault in reader.errors if "ERR_CONNECTION" not in fault]


def test_an_empty_lake_says_what_fills_it(browser: Browser, tmp_path: Path) -> None:
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


def test_a_lake_published_anew_is_shown_anew(browser: Browser, tmp_path: Path) -> None:
    explained_run(tmp_path, "first", task="questions", **created_on(1))
    publish(tmp_path, analyse)
    with running_server(tmp_path) as address, page_reader(browser, address) as reader:
        reader.with_charts().open()
        assert reader.page.locator("#task option").all_text_contents() == ["questions"]
        flipping_run(tmp_path, "second", task="stories", **created_on(2))
        publish(tmp_path, analyse)
        reader.page.locator("#level").select_option("2")
        expect(reader.page.locator("#message .notice")).to_contain_text("published anew")
        assert reader.page.locator("#task option").all_text_contents() == ["questions", "stories"]
        reader.settle()
        expect(reader.page.locator("#footer")).to_contain_text("of 2 runs")
        assert reader.url_parameters()["level"] == "2"


def test_the_files_of_the_page_are_never_of_two_versions(address: str) -> None:
    answer = httpx.get(f"{address}/page/page.js")
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["content-type"].startswith("text/javascript")
    kept = httpx.get(f"{address}/page/page.js", headers={"If-None-Match": answer.headers["etag"]})
    assert kept.status_code == 304
