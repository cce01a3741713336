"""The choices of model, task, run and level, and the address that holds them."""

from urllib.parse import urlsplit

from playwright.sync_api import Browser, Route, expect

from tests.support.page.page_lake import BETA, PageLake
from tests.support.page.page_reader import PageReader, page_reader


def test_another_model_and_task_change_verdict_charts_examples_and_address(
    reader: PageReader, runs: PageLake
) -> None:
    reader.with_charts("confidence").open()
    before = reader.chart("confidence").locator("img").get_attribute("alt")
    expect(reader.examples().locator("ol button")).to_have_count(4)
    reader.choose("model", "beta")
    expect(reader.page.locator("#subject")).to_have_text(f"{BETA}, questions, cosine order")
    reader.choose("task", "stories")
    said = reader.api_answer("/findings", run_id=runs.flipping)
    expect(reader.page.locator("#outline")).to_have_text(f"{said['outline']}.")
    after = reader.chart("confidence").locator("img").get_attribute("alt")
    assert after != before
    expect(reader.examples().locator("ol button")).to_have_count(3)
    assert reader.url_parameters() == {
        "model": "beta",
        "task": "stories",
        "strategy": "cosine",
        "run_id": runs.flipping,
    }


def test_one_of_several_matching_runs_can_be_chosen(chartless: PageReader, runs: PageLake) -> None:
    chartless.open("?model=alpha&task=questions&strategy=cosine")
    choices = chartless.page.locator("#run option")
    values = [option.get_attribute("value") for option in choices.all()]
    assert values == [runs.explained, runs.older]
    expect(choices.nth(1)).to_contain_text("2026-01-01 00:00, 4 examples, kernel_shap")
    chartless.choose("run", runs.older)
    assert chartless.url_parameters()["run_id"] == runs.older
    chartless.choose("strategy", "random")
    assert chartless.url_parameters()["run_id"] == runs.random
    expect(chartless.page.locator("#run")).to_be_hidden()


def test_the_address_has_the_names_of_the_api_and_a_note_names_others(
    chartless: PageReader, runs: PageLake
) -> None:
    chartless.open(f"?run_id={runs.random}&levle=1&level=2&run_di=x")
    said = "The page ignores levle, run_di in its address; it knows model, task, strategy, run_id,"
    expect(chartless.page.locator("#message")).to_contain_text(said)
    assert chartless.url_parameters()["run_id"] == runs.random
    assert "levle" not in chartless.url_parameters()
    chartless.open(f"?run_id={runs.explained}&example_id=test:1")
    expect(chartless.examples().locator("#example h3")).to_have_text("Example test:1")
    expect(chartless.page.locator("#message")).to_be_empty()


def test_another_level_requests_only_its_own_parts(reader: PageReader, runs: PageLake) -> None:
    reader.open(f"?run={runs.explained}&level=1")
    reader.see_all()
    reader.requests.clear()
    reader.choose("level", "2")
    reader.see_all()
    takes = {chart["name"] for chart in reader.api_answer("/charts") if "level" in chart["takes"]}
    again = {urlsplit(request).path.split("/")[2] for request in reader.requests_for("/charts/")}
    assert {name.partition(".")[0] for name in again} == takes
    assert reader.requests_for("/models") == []
    assert len(reader.requests_for("/findings")) == 1
    assert "level=2" in reader.requests_for(f"/examples/{runs.explained}")[0]
    assert reader.url_parameters()["level"] == "2"


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
        "run_id": runs.explained,
        "level": "2",
        "metric": "nll",
        "example_id": "test:1",
        "method": "lime",
        "theme": "dark",
    }

    def shows_all(one: PageReader) -> None:
        one.settle()
        assert one.url_parameters() == expected
        for name in ("model", "task", "strategy", "run_id", "level", "metric", "theme"):
            control = name.removesuffix("_id")
            expect(one.page.locator(f"#{control}")).to_have_value(expected[name])
        expect(one.page.locator("[data-metric=nll]")).to_be_visible()
        expect(one.examples().locator("h3")).to_have_text("Example test:1")
        expect(one.page.locator("#method")).to_have_value("lime")

    shows_all(chartless)
    chartless.page.reload()
    shows_all(chartless)
    with page_reader(browser, chartless.address) as another:
        another.with_charts().open(chartless.page.url.partition("/?")[2].join(("?", "")))
        shows_all(another)


def test_back_and_forward_go_through_earlier_choices(chartless: PageReader, runs: PageLake) -> None:
    chartless.open()
    chartless.choose("task", "reviews")
    chartless.choose("metric", "nll")
    chartless.page.go_back()
    expect(chartless.page.locator("#metric")).to_have_value("ece")
    expect(chartless.page.locator("#task")).to_have_value("reviews")
    chartless.page.go_back()
    expect(chartless.page.locator("#task")).to_have_value("questions")
    said = chartless.api_answer("/findings", run_id=runs.explained)
    expect(chartless.page.locator("#outline")).to_have_text(f"{said['outline']}.")
    chartless.page.go_forward()
    said = chartless.api_answer("/findings", run_id=runs.judged)
    expect(chartless.page.locator("#outline")).to_have_text(f"{said['outline']}.")
    assert chartless.url_parameters()["run_id"] == runs.judged


def test_unknown_values_in_a_link_are_named(chartless: PageReader, runs: PageLake) -> None:
    chartless.open(f"?run={runs.judged}&level=17&metric=overlap_10")
    notices = chartless.page.locator("#message .notice").all_text_contents()
    level = chartless.api_answer("/findings", run_id=runs.judged)["level"]
    assert notices == [
        f"This run has no level 17; the page shows {level}.",
        "This run has no metric Overlap 10; the page shows ECE.",
    ]
    chartless.expected.add(404)
    chartless.open("?model=gamma", until="#message .problem")
    expect(chartless.page.locator("#message")).to_contain_text("No run of model 'gamma'")
    expect(chartless.page.locator("#message li").first).to_contain_text("a table, reviews")
    expect(chartless.page.locator("#content")).to_be_hidden()
    # From here on the tests need no charts.
    chartless.choose("model", "beta")
    assert chartless.url_parameters()["run_id"] == runs.beta
    expect(chartless.page.locator("#message")).to_be_empty()


def test_older_answers_never_appear_with_newer_answers(reader: PageReader, runs: PageLake) -> None:
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
    said = reader.api_answer("/findings", run_id=runs.flipping)
    reader.settle()
    expect(reader.page.locator("#outline")).to_have_text(f"{said['outline']}.")
    assert reader.url_parameters()["run_id"] == runs.flipping


def test_words_narrow_the_selectors_and_the_address_keeps_them(
    chartless: PageReader, runs: PageLake
) -> None:
    chartless.open("?find=beta#examples")
    assert chartless.url_parameters()["find"] == "beta"
    assert chartless.page.url.endswith("#examples")
    expect(chartless.page.locator("#model option")).to_have_count(1)
    expect(chartless.page.locator("#runs ol > li")).to_have_count(2)
    chartless.page.locator("#find").fill("BETA stories")
    expect(chartless.page.locator("#task option")).to_have_text(["stories"])
    chartless.settle()
    assert chartless.url_parameters()["run_id"] == runs.flipping
    chartless.page.locator("#find").fill("nothing of this kind")
    expect(chartless.page.locator("#message")).to_contain_text("No run matches")
    chartless.page.locator("#find").fill("")
    chartless.settle()
    expect(chartless.page.locator("#task option")).not_to_have_count(1)


def test_a_run_is_shown_before_the_map_of_all_runs(chartless: PageReader) -> None:
    held: list[Route] = []
    chartless.context.route("**/map", lambda route: held.append(route))
    chartless.open()
    expect(chartless.page.locator("#runs")).to_have_attribute("aria-busy", "true")
    held[0].continue_()
    expect(chartless.page.locator("#runs [aria-current]")).to_have_count(1)
    expect(chartless.page.locator("#runs")).not_to_have_attribute("aria-busy", "true")


def test_a_cell_of_the_map_leads_to_its_run_and_level(
    chartless: PageReader, runs: PageLake
) -> None:
    chartless.open()
    said = chartless.api_answer("/map")
    expect(chartless.page.locator("#lake-outline")).to_have_text(f"{said['outline']}.")
    assert said["outline"].startswith("7 runs: 1 with hidden degradation; ")
    assert chartless.page.url.endswith(f"run_id={runs.explained}")
    row = chartless.page.locator("#runs ol > li").first
    expect(row.locator("p")).to_have_text(f"{said['runs'][0]['finding']}.")
    row.get_by_role("link", name="level 2: visible degradation").click()
    expect(row.locator("[aria-current]")).to_have_text("v2level 2: visible degradation")
    assert chartless.page.url.endswith("#verdict")
    expect(chartless.page.locator("#verdict")).to_be_focused()
    expect(chartless.page.locator("#level")).to_have_value("2")
    assert chartless.url_parameters()["run_id"] == runs.judged
    chartless.page.go_back()
    chartless.settle()
    assert chartless.url_parameters()["run_id"] == runs.explained
