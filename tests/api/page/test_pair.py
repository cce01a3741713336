"""Two runs, or two levels of a run, side by side."""

import re

from playwright.sync_api import expect

from prunelake.api.findings.wording import MINUS
from tests.support.page.page_lake import PageLake
from tests.support.page.page_reader import PageReader

TEXTS = re.compile(r"<text[^>]*>([^<]*)</text>")


def test_a_kept_level_stands_beside_another_level_and_run(
    reader: PageReader, runs: PageLake
) -> None:
    reader.with_charts("reliability").open(f"?run_id={runs.judged}&level=1")
    page = reader.page
    page.get_by_role("button", name="Compare with another run").click()
    expect(page.locator("#pair .note").first).to_contain_text("Both sides show the same level")
    page.locator("#level").select_option("2")
    row = page.locator("#pair tbody tr").filter(has=page.get_by_text("ECE", exact=True))
    answer = reader.api_answer("/views/headline_metrics", run_id=runs.judged, metric="ece")
    delta = {one["level"]: one["delta"] for one in answer["rows"]}
    difference = f"{delta[1] - delta[2]:+.3f}".replace("-", MINUS)
    expect(row.locator("td").last).to_have_text(difference)
    expect(page.locator("#pair .note").first).to_contain_text("differences have no interval")
    plots = reader.chart("reliability").locator("img")
    expect(plots).to_have_count(2)
    expect(page.locator("#runs [aria-current]")).to_have_count(2)
    page.locator("#task").select_option("questions")
    expect(page.locator("#pair .note").first).to_contain_text("The tasks differ")
    expect(page.locator("#pair thead")).not_to_contain_text("Difference")
    page.reload()
    expect(page.locator("#pair .note").first).to_contain_text("The tasks differ")
    expect(page.locator("#beside")).to_contain_text("hub:org/alpha, reviews, cosine order")
    page.get_by_role("button", name="Swap").click()
    expect(page.locator("#beside")).to_contain_text("hub:org/alpha, questions, cosine order")
    shown = reader.url_parameters()
    assert (shown["run_id"], shown["level"]) == (runs.judged, "1")
    assert shown["other_run_id"] == runs.explained
    page.get_by_role("button", name="Remove").click()
    reader.settle()
    expect(page.locator("#beside")).to_be_hidden()
    assert "other_run_id" not in reader.url_parameters()


def test_charts_side_by_side_have_the_same_axes(chartless: PageReader, runs: PageLake) -> None:
    specs = [
        chartless.api_answer("/charts/levels.json", run_id=run, metric="nll")
        for run in (runs.judged, runs.explained)
    ]
    chartless.open()
    drawn = chartless.page.evaluate(
        """async (specs) => {
            const { draw, drawTogether } = await import("/page/draw.js");
            const { signal } = new AbortController();
            const alone = await Promise.all(specs.map((spec) => draw(spec, 348, signal)));
            return [alone, await drawTogether(specs, [348, 348], signal)];
        }""",
        specs,
    )
    numbers = [[set(filter(_is_number, TEXTS.findall(svg))) for svg in pair] for pair in drawn]
    assert numbers[0][0] != numbers[0][1]
    assert numbers[1][0] == numbers[1][1]


def test_an_unknown_second_run_is_named(chartless: PageReader) -> None:
    chartless.open("?other_run_id=nothing")
    expect(chartless.page.locator("#message")).to_contain_text("The lake has no run nothing")
    assert "other_run_id" not in chartless.url_parameters()


def _is_number(text: str) -> bool:
    return re.fullmatch(rf"[{MINUS}\d.]+", text) is not None
