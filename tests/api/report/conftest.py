"""A lake with plain verdicts and its report, for several files."""

from pathlib import Path

import pytest

from tests.support.api.report_page import ReportPage, draw_only, report
from tests.support.runs.example_runs import judged_run


@pytest.fixture
def without_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without charts, which take longest to draw."""
    draw_only(monkeypatch)


@pytest.fixture(scope="session")
def judged_lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with one run and plain verdicts."""
    folder = tmp_path_factory.mktemp("judged")
    judged_run(folder)
    return folder


@pytest.fixture(scope="session")
def judged(judged_lake: Path) -> ReportPage:
    """The report of that run, with one chart."""
    with pytest.MonkeyPatch.context() as patch:
        draw_only(patch, "deltas")
        return report(judged_lake, judged_lake / "report.html")
