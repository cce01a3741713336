"""The report of several runs as a whole: its content, without network access."""

import re
from collections import Counter
from pathlib import Path

import pytest

from prunelake.api.charts.catalog import CHARTS
from prunelake.api.charts.drawing.house_style import BLUE, DARK, INK
from tests.support.api.report_page import (
    CONFIDENCE,
    EXPLANATIONS,
    OPENED,
    RELIABILITY,
    VERDICTS,
    ReportPage,
    captions,
    draw_only,
    report,
)
from tests.support.runs.example_runs import explained_run

DROPS = {("kernel_shap", "delete_text"): 0.5, ("random", "delete_text"): 0.25}


LOADING = {"src", "href", "xlink:href", "srcset", "data", "poster", "action", "background"}


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> ReportPage:
    """The report of three runs: two of one model, one of another."""
    folder = tmp_path_factory.mktemp("full")
    explained_run(folder / "lake", "a", DROPS, task="first_task", model="hub:org/one")
    explained_run(folder / "lake", "b", {}, task="second_task", model="hub:org/one")
    explained_run(folder / "lake", "c", DROPS, task="first_task", model="hub:org/two")
    return report(folder / "lake", folder / "report.html")


def test_the_page_loads_nothing(full: ReportPage) -> None:
    for tag, name, value in full.attributes:
        if name in LOADING:
            assert value.startswith("#"), f"<{tag} {name}={value}>"
        assert not name.startswith("on")
    assert full.tags.keys().isdisjoint({"script", "link", "iframe", "object", "embed", "img"})
    assert "@import" not in full.source
    targets = re.findall(r"url\(([^)]*)\)", full.source)
    assert targets
    assert all(target.startswith("#") for target in targets)


def test_every_reference_of_the_page_has_one_target(full: ReportPage) -> None:
    ids = Counter(full.values("id"))
    assert set(ids.values()) == {1}
    targets = re.findall(r"url\(#([^)]*)\)", full.source)
    targets += [value[1:] for value in full.values("href")]
    assert set(targets) <= ids.keys()


def test_the_charts_are_drawn_for_light_and_dark_paper(full: ReportPage) -> None:
    shades = {light: dark for light, dark in DARK.items() if light != dark}
    written = "|".join(map(re.escape, shades))
    assert not re.findall(rf'(?:fill|stroke)(?:="|: )({written})\b', full.source)
    for light in ("white", INK, BLUE):
        assert f"fill: light-dark({light}, {shades[light]})" in full.source


def test_the_page_can_be_read_aloud_and_on_a_phone(full: ReportPage) -> None:
    names = full.values("aria-label", "svg")
    assert full.values("role", "svg") == ["img"] * full.tags["svg"]
    assert len(names) == full.tags["svg"] == full.tags["figcaption"]
    assert all(len(name) > 20 for name in names)
    assert full.tags["caption"] == full.tags["table"] > 0
    assert full.values("lang", "html") == ["en"]
    assert "width=device-width" in full.values("content", "meta")[0]
    assert "prefers-color-scheme: dark" in full.source


def test_runs_of_one_model_share_a_section(full: ReportPage) -> None:
    assert re.findall(r"<h2>(.*?)</h2>", full.source) == [
        "Recommendations",
        "Correlations with accuracy over several runs",
        "one, cosine order",
        "two, cosine order",
    ]
    assert re.findall(r"<h3>(.*?)</h3>", full.source) == [
        *("one", "two"),  # what to remove
        *("first_task", "second_task", "first_task"),
    ]


def test_every_chart_is_shown_once_for_each_run_or_each_model(full: ReportPage) -> None:
    one, two = full.source.split("<h2>")[3:]
    of_one, first, second = one.split("<h3>")
    overlap = CHARTS["overlap"].caption
    opened = [*OPENED[:3], overlap, *OPENED[3:]]
    explained = [CONFIDENCE, EXPLANATIONS, VERDICTS, RELIABILITY], opened
    assert captions(first) == explained
    assert captions(second) == ([CONFIDENCE, VERDICTS, RELIABILITY], OPENED)
    assert captions(two.split("<h3>")[1]) == explained
    importance, matrix = captions(of_one)[0]
    assert importance.startswith("Importance of attention layers: 1 minus the mean")
    assert matrix == CHARTS["correlation_matrix"].caption
    # With one task there is nothing to compare.
    assert len(captions(two.split("<h3>")[0])[0]) == 1


def test_strategies_of_one_task_are_compared_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_only(monkeypatch, "pareto")
    for strategy in ("cosine", "random"):
        explained_run(tmp_path, strategy, {}, strategy=strategy)
    page = report(tmp_path, tmp_path / "report.html")
    assert page.source.count(CHARTS["pareto"].caption) == 2  # read aloud, and below the chart


def test_the_page_has_the_finding_the_caveat_and_the_warnings(full: ReportPage) -> None:
    assert "No level is shown to keep accuracy within 0.02 of 0.75." in full.text
    assert "could have been missed" in full.text
    assert re.search(r'title="change [^"]*; a change below \d\.\d{3} could have', full.source)
    assert "Tests and intervals use n = 4 examples; for explanations, n =" in full.text
    assert "Near chance: the unpruned accuracy 0.75" in full.text
    assert "method kernel_shap, operator delete_text, AOPC variant eraser" in full.text
    assert "constant metric" in full.text
    assert "point estimate" not in full.text


def test_the_footer_says_how_to_make_it_again(full: ReportPage) -> None:
    footer = full.source.partition("<footer>")[2]
    assert re.search(r"prunelake report --lake \S+lake --out report.html", footer)
    assert len(re.findall(r"<code>[0-9a-f]{16}</code>", footer)) == 3


def test_names_cannot_inject_markup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_only(monkeypatch, "verdicts", "pareto")
    evil = "<script>alert('1')</script>&\""
    explained_run(tmp_path, "a", DROPS, model=evil, task=evil, device=evil)
    page = report(tmp_path, tmp_path / "report.html")
    assert "script" not in page.tags
    assert evil in page.text
