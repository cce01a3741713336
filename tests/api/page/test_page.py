"""The page shows the verdict, the charts and the examples of a run."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import httpx
from playwright.sync_api import Browser, expect
from starlette.types import Receive, Scope, Send

from prunelake.api.findings.wording import MINUS
from prunelake.api.http.first_screen import request_first_screen
from prunelake.api.report.document import write_report
from tests.support.limits import HANG_S
from tests.support.page.barriers import barriers
from tests.support.page.number_examples import NUMBER_EXAMPLES
from tests.support.page.page_lake import PageLake
from tests.support.page.page_reader import PageReader
from tests.support.runs.lake_rows import rows_of


def test_the_page_opens_with_the_latest_run_and_its_verdict_in_words(
    reader: PageReader, runs: PageLake
) -> None:
    reader.open()
    said = reader.api_answer("/findings", run_id=runs.explained)
    assert reader.url_parameters()["run_id"] == runs.explained
    expect(reader.page.locator("#outline")).to_have_text(f"{said['outline']}.")
    paragraphs = reader.page.locator("#words p").all_text_contents()
    assert paragraphs == [
        *said["sentences"],
        *(f"Caution: {warning}" for warning in said["warnings"]),
        said["caveat"],
    ]
    assert reader.page.title() == f"alpha, questions, level {said['level']} · PruneLake"
    reader.see_all()
    reader.save_screenshot("page-desktop")
    # The server has prepared the answers to all requests of the first screen.
    others = ("/examples/", "/page/")
    asked = {request for request in reader.requests if not request.startswith(others)}
    assert asked - {"/"} <= prepared_requests(reader.address)


def prepared_requests(address: str) -> set[str]:
    """The requests that a server sends to itself for the first screen of the lake of `address`."""
    requests: set[str] = set()

    async def app(scope: Scope, _: Receive, send: Send) -> None:
        request = f"{scope['path']}?{scope['query_string'].decode()}".rstrip("?")
        requests.add(request)
        answer = httpx.get(address + request, timeout=HANG_S)
        await send({"type": "http.response.start", "status": answer.status_code, "headers": []})
        await send({"type": "http.response.body", "body": answer.content})

    # In this thread, Playwright has an event loop already.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, request_first_screen(app)).result()
    return requests


def test_warnings_stand_out(chartless: PageReader, runs: PageLake) -> None:
    chartless.open(f"?run={runs.explained}")
    warnings = chartless.api_answer("/findings", run_id=runs.explained)["warnings"]
    shown = chartless.page.locator("#words .warning").all_text_contents()
    assert warnings
    assert shown == [f"Caution: {warning}" for warning in warnings]


def test_the_sentences_describe_the_chosen_level(chartless: PageReader, runs: PageLake) -> None:
    said = {
        level: chartless.api_answer("/findings", run_id=runs.explained, level=level)["sentences"]
        for level in (1, 2)
    }
    assert said[1] != said[2]
    words = chartless.page.locator("#words p")
    for level in (2, 1):
        chartless.open(f"?run={runs.explained}&level={level}")
        assert words.all_text_contents()[: len(said[level])] == said[level]
    chartless.page.get_by_label("Layers removed").select_option("2")
    expect(words.nth(len(said[2]) - 1)).to_have_text(said[2][-1])


def test_the_numbers_match_the_lake(chartless: PageReader, runs: PageLake) -> None:
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


def test_the_page_writes_numbers_as_the_server_does(chartless: PageReader) -> None:
    chartless.open()
    written = chartless.page.evaluate(
        """async (examples) => {
            const numbers = await import("/page/numbers.js");
            return examples.map(([name, values]) => numbers[name](...values));
        }""",
        [[function, values] for function, values, _ in NUMBER_EXAMPLES],
    )
    assert written == [text for _, _, text in NUMBER_EXAMPLES]


def test_every_metric_of_the_level_is_in_the_table(chartless: PageReader, runs: PageLake) -> None:
    chartless.open(f"?run={runs.explained}&level=2")
    chartless.page.locator("#all-metrics summary").click()
    rows = chartless.page.locator("#all-metrics tbody tr")
    metrics = chartless.api_answer("/findings", run_id=runs.explained)["metrics"]
    assert rows.count() >= len(metrics) > 10
    # The headline explanation is by KernelSHAP, although the run also has LIME: 0.5 - 2 * 0.125.
    row = rows.filter(has=chartless.page.get_by_text("Comprehensiveness", exact=True))
    assert row.locator("td").nth(0).text_content() == "0.500"
    assert row.locator("td").nth(1).text_content() == "0.250"


def test_values_of_a_table_have_no_verdict(chartless: PageReader, runs: PageLake) -> None:
    chartless.open("?model=a+table")
    assert chartless.url_parameters()["run_id"] == runs.published
    expect(chartless.page.locator("[data-metric=ece] .badge")).to_have_count(0)
    expect(chartless.page.locator("[data-metric=ece]")).to_contain_text("not tested")
    expect(chartless.page.locator("#strategy option:checked")).to_have_text("not known")


def test_charts_are_requested_near_the_screen(reader: PageReader, runs: PageLake) -> None:
    names = [chart["name"] for chart in reader.api_answer("/charts")]
    reader.open(f"?run={runs.explained}")
    reader.chart(names[0])
    assert not [request for request in reader.requests if f"/charts/{names[-1]}.json" in request]
    assert reader.requests_for("/examples/") == []
    reader.chart(names[-1])
    reader.examples()
    assert reader.requests_for(f"/examples/{runs.explained}")


def test_axe_finds_no_barrier_on_the_page(reader: PageReader, runs: PageLake) -> None:
    reader.with_charts("levels", "verdicts", "reliability").open(f"?run={runs.explained}")
    reader.see_all()
    expect(reader.page.locator("#advice p").first).to_be_visible()
    assert barriers(reader.page) == []


def test_axe_finds_no_barrier_in_the_report(
    browser: Browser, runs: PageLake, tmp_path: Path
) -> None:
    write_report(runs.lake, tmp_path / "report.html", [runs.explained, runs.judged])
    page = browser.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    assert barriers(page) == []
    page.close()


def test_a_chart_is_skipped_by_keyboard(reader: PageReader, runs: PageLake) -> None:
    reader.with_charts("levels", "verdicts").open(f"?run={runs.explained}")
    first = reader.chart("levels")
    first.get_by_role("link", name="Skip this chart").press("Enter")
    expect(reader.page.locator("[data-chart=verdicts]")).to_be_focused()
    for link in first.locator(".links a").all():
        box = link.bounding_box()
        assert box is not None
        assert box["height"] >= 24


def test_every_chart_offers_its_files_link_and_sql(reader: PageReader, runs: PageLake) -> None:
    reader.context.grant_permissions(["clipboard-read", "clipboard-write"])
    reader.with_charts("reliability").open(f"?run={runs.explained}&level=2&theme=dark")
    card = reader.chart("reliability")
    kinds = {}
    for link in card.locator(".links a").all():
        answer = httpx.get(reader.address + str(link.get_attribute("href")), timeout=HANG_S)
        kinds[link.text_content()] = (answer.status_code, answer.headers["content-type"])
    assert kinds == {
        "SVG": (200, "image/svg+xml"),
        "PNG": (200, "image/png"),
        "Interactive": (200, "text/html; charset=utf-8"),
        "Data": (200, "application/json"),
    }
    card.get_by_role("button", name="Copy picture address").click()
    expect(card.locator("[role=status]")).to_contain_text("SVG is copied")
    copied = reader.page.evaluate("navigator.clipboard.readText()")
    assert copied == (
        f"{reader.address}/charts/reliability.svg?run_id={runs.explained}&level=2&theme=dark"
    )
    card.get_by_role("button", name="Copy link").click()
    expect(card.locator("[role=status]")).to_contain_text("this page is copied")
    copied = urlsplit(reader.page.evaluate("navigator.clipboard.readText()"))
    # Also the values that nobody chose: defaults may change.
    shown = {"run_id": runs.explained, "level": "2", "metric": "ece", "theme": "dark"}
    assert shown.items() <= dict(parse_qsl(copied.query)).items()
    assert copied.fragment == "chart-reliability"
    card.locator("summary").click()
    sql = str(card.locator("pre").text_content())
    ran = rows_of(runs.lake, sql)
    assert {row["level"] for row in ran} == {0, 2}
    spec = reader.api_answer("/charts/reliability.json", run_id=runs.explained, level=2)
    caption = next(
        chart["caption"] for chart in reader.api_answer("/charts") if chart["name"] == "reliability"
    )
    title = " ".join(spec["title"]["text"])
    assert str(card.locator("img").get_attribute("alt")).startswith(f"{caption} {title}")


def score_text(value: float) -> str:
    """A score as the page shows it."""
    return f"{value:+.3f}".replace("-", MINUS) if round(value, 3) else "0.000"


def test_an_example_shows_both_sides_with_the_numbers_of_the_lake(
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
        assert titles == [score_text(row["score"]) for row in scores]
        assert titles[1] == f"{MINUS}0.500"
    expect(section.locator(".about")).to_contain_text("Right answer: “no”")
    expect(section.locator(".about .flip")).to_have_text("harmful flip")
    flips = [flip.text_content() for flip in section.locator("ol .flip").all()]
    assert flips == ["harmful flip", "beneficial flip"]
    chartless.save_screenshot("page-example")


def test_scores_differ_in_more_than_colour(chartless: PageReader, runs: PageLake) -> None:
    chartless.open(f"?run={runs.flipping}&level=1&example=test:0")
    tokens = chartless.examples().locator("[data-side=pruned] .token").all()
    style = "token => getComputedStyle(token).textDecorationLine + getComputedStyle(token)"
    lines = [token.evaluate(f"{style}.textDecorationStyle") for token in tokens]
    positive, negative, none = "underlinesolid", "underlinedashed", "nonesolid"
    assert lines == [positive, negative, positive, none, negative, none]
    # 0.25, -0.5, 0.5, 0, -0.125, 0: each relative to the largest score of its side.
    key = chartless.page.locator(".token.legend").first
    assert key.evaluate("token => getComputedStyle(token).display") == "inline"
    strengths = [token.evaluate("token => token.style.cssText") for token in tokens]
    assert strengths == [f"--strength: {part};" for part in PARTS]


PARTS = ["0.500", "1.000", "1.000", "0.000", "0.250", "0.000"]


def test_another_method_explains_the_example(chartless: PageReader, runs: PageLake) -> None:
    chartless.open(f"?run={runs.explained}&example=test:1")
    chartless.examples().locator("#method").select_option("lime")
    expect(chartless.page.locator("#method")).to_have_value("lime")
    assert chartless.url_parameters()["method"] == "lime"
    # The page says that the method does not explain this example.
    chartless.examples().locator("[data-example='test:3']").click()
    expect(chartless.page.locator("#example .notice")).to_have_text(
        "This example is not explained by lime."
    )
    chartless.expected.add(404)


def test_a_run_without_explanations_has_a_note_in_place_of_the_picture(
    reader: PageReader, runs: PageLake
) -> None:
    reader.with_charts("explanations").open(f"?run={runs.judged}")
    card = reader.chart("explanations")
    said = httpx.get(
        f"{reader.address}/charts/explanations.svg?run_id={runs.judged}", timeout=HANG_S
    ).json()
    expect(card.locator(".paper")).to_have_text(
        f"{said['error']['message'][0].upper()}{said['error']['message'][1:]}."
    )
    expect(card.locator("img")).to_have_count(0)
    expect(card.locator(".links")).to_be_hidden()
    expect(reader.examples().locator("#example")).to_contain_text("holds no examples of this run")
