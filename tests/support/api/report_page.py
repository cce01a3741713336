"""The HTML of a report, taken apart for tests."""

import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from prunelake.api.charts.catalog import CHARTS
from prunelake.api.report.document import write_report
from prunelake.api.report.run_section import MAIN_CHARTS

CONFIDENCE, EXPLANATIONS, VERDICTS, RELIABILITY = (CHARTS[name].caption for name in MAIN_CHARTS)
OPENED = [CHARTS[name].caption for name in ("deltas", "path", "correlations", "flips", "pareto")]


class ReportPage(HTMLParser):
    """The tags, attributes and texts of a report."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.source = file.read_text(encoding="utf-8")
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def values(self, name: str, tag: str | None = None) -> list[str]:
        return [v for t, n, v in self.attributes if n == name and tag in (None, t)]


def report(lake: Path, out: Path, **options: list[str]) -> ReportPage:
    write_report(lake, out, **options)
    return ReportPage(out)


def draw_only(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let the sections of runs have only these charts: charts take longest."""
    monkeypatch.setattr(
        "prunelake.api.report.run_section.CHARTS", {name: CHARTS[name] for name in names}
    )


def table_rows(page: ReportPage, caption: str) -> list[list[str]]:
    """The cells of a table by row, tags included; its caption starts with `caption`."""
    table = re.search(rf"<caption><span>{caption}.*?</table>", page.source)
    assert table
    body = table[0].partition("<tbody>")[2]
    return [re.findall(r"<t[hd].*?</t[hd]>", row) for row in re.findall(r"<tr>.*?</tr>", body)]


def captions(markup: str) -> tuple[list[str], list[str]]:
    """The captions of the charts that are always visible, and of those that the reader opens."""
    at_once, _, opened = markup.partition("<details>")
    caption = "<figcaption>(.*?)</figcaption>"
    return re.findall(caption, at_once), re.findall(caption, opened)
