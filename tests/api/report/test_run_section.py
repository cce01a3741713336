"""The section of a run: its charts, sentences and warnings."""

import re
from pathlib import Path

import pytest

from prunelake.api.charts.catalog import CHARTS
from tests.support.api.report_page import (
    CONFIDENCE,
    EXPLANATIONS,
    OPENED,
    ReportPage,
    captions,
    draw_only,
    report,
    table_rows,
)
from tests.support.lakes.lake_files import forget_analysis
from tests.support.runs.example_runs import explained_run, published_run
from tests.support.runs.lake_rows import prediction, run_row, write


def test_charts_of_one_metric_show_a_degraded_metric(judged: ReportPage) -> None:
    (name,) = (
        name for name in judged.values("aria-label", "svg") if CHARTS["deltas"].caption in name
    )
    assert "ECE is worse at level" in name


def test_a_published_run_says_what_is_unknown(tmp_path: Path) -> None:
    published_run(tmp_path, task="published_task")
    page = report(tmp_path, tmp_path / "report.html")
    assert (
        "they cannot show which levels keep accuracy, and which metrics are worse there."
        in page.text
    )
    assert "method lime, operator unknown, AOPC variant unknown" in page.text
    assert "Published averages give correlations only" in page.text
    rows = table_rows(page, "Published values")
    minus = "\N{MINUS SIGN}"
    assert [re.sub("<.*?>", "", cell) for cell in rows[4]] == [
        "4",
        f"0.250 ({minus}0.500)",
        "0.500 (+0.375)",
        f"0.125 ({minus}0.375)",
    ]
    assert "n, intervals and adjusted p" not in page.source
    correlations = table_rows(page, "Correlation of each metric with accuracy over levels; no")
    assert [len(row) for row in correlations] == [6, 6]
    # Nothing for verdicts, reliability, flips, overlaps, or a removal order.
    assert captions(page.source) == (
        [CONFIDENCE, EXPLANATIONS],
        [caption for caption in OPENED if caption != CHARTS["flips"].caption],
    )


def test_a_run_without_analysis_says_how_to_get_one(tmp_path: Path) -> None:
    run_id = explained_run(tmp_path, drops={})
    forget_analysis(tmp_path, run_id)
    page = report(tmp_path, tmp_path / "report.html")
    assert "This run has no metrics; `prunelake analyse`" in page.text


def test_difference_shap_says_why_overlaps_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_only(monkeypatch, "overlap", "verdicts")
    drops = {(method, "delete_text"): 0.5 for method in ("difference_shap", "random")}
    explained_run(tmp_path, drops=drops)
    page = report(tmp_path, tmp_path / "report.html")
    assert "cannot show whether explanations of two levels agree" in page.text
    assert CHARTS["overlap"].caption not in page.source


def test_a_run_without_explanations_omits_their_charts_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_only(monkeypatch, "explanations", "overlap", "correlations", "verdicts")
    explained_run(tmp_path, drops={})
    page = report(tmp_path, tmp_path / "report.html")
    assert "This run has predictions only" in page.text
    assert "Faithfulness" not in page.text
    assert "comprehensiveness" not in page.text


@pytest.mark.parametrize(
    "log_likelihoods", [[], [[float("nan"), -1.0]], [[-1.0, -2.0]]], ids=["none", "nan", "one"]
)
def test_a_run_with_hardly_any_rows_still_has_a_section(
    tmp_path: Path, log_likelihoods: list[list[float]]
) -> None:
    run = run_row(task="sparse_task", levels=[0])
    rows = [
        prediction(str(run["run_id"]), 0, f"test:{i}", values)
        for i, values in enumerate(log_likelihoods)
    ]
    write(tmp_path, run, predictions=rows)
    page = report(tmp_path, tmp_path / "report.html")
    assert "<h3>sparse_task</h3>" in page.source
    is_scored = log_likelihoods == [[-1.0, -2.0]]
    assert ("No accuracy could be computed." in page.text) != is_scored
