"""The tables of verdicts, correlations, costs and runs."""

import re
from pathlib import Path

import pytest

from prunelake.api.charts.catalog import CHARTS
from prunelake.lake.sql.views import query
from tests.support.api.report_page import ReportPage, report, table_rows
from tests.support.runs.example_runs import explained_run
from tests.support.runs.profile_rows import profiled


@pytest.mark.usefixtures("without_charts")
def test_the_costs_of_levels_appear_once_for_a_removal_order(tmp_path: Path) -> None:
    for task in ("first", "second"):
        explained_run(tmp_path / "lake", task, {}, task=task)
    assert "Costs of the levels" not in report(tmp_path / "lake", tmp_path / "bare.html").source
    decode = {0: [4.0, 5.0], 1: [4.0, 4.0], 2: [2.0, 2.5]}
    profiled(tmp_path / "lake", decode=decode, removal_order=[2, 1])
    page = report(tmp_path / "lake", tmp_path / "report.html")
    assert page.source.count("<h3>Costs of the levels</h3>") == 1
    assert page.source.count(f"<figcaption>{CHARTS['cost'].caption}</figcaption>") == 1
    rows = table_rows(page, "The costs of a level on a CPU, 1 thread, in float32")
    cells = [re.sub("<.*?>", " ", cell).split() for cell in rows[2]]
    assert cells[0] == ["2"]
    assert cells[2][-2:] == ["80", "%"] or cells[2][-1] == "80\N{NO-BREAK SPACE}%"
    # 2 x 10 tokens in 2 and 2.5 seconds; each repeat is compared with its own level 0.
    assert " ".join(cells[-1]) == "9 2.00 x, 2.00 to 2.00"
    assert "2 x 100 prompt tokens, then 10 new tokens" in page.text


def test_verdicts_have_words_and_colours(judged: ReportPage) -> None:
    unpruned, stable, fallen = table_rows(judged, "Verdicts by level")
    assert [cell.partition(">")[2].partition("<")[0] for cell in unpruned[:4]] == [
        "0",
        "0.875",
        "0.000",
        "0.000",
    ]
    assert re.fullmatch(
        r'<td class="equivalent" title="change 0.000; n = 400; adjusted p 1.000; .*">'
        r"stable<small>0.875 \(0.000\)</small></td>",
        stable[1],
    )
    assert stable[2].startswith('<td class="equivalent" title="change 0.000, 95 % interval 0.000')
    assert ">visible<small>0.375 (+0.375)</small>" in fallen[2]
    assert stable[3].startswith('<td class="hidden" title="change +0.120, 95 % interval 0.0')
    assert "; n = 400; adjusted p &lt; 0.001" in stable[3]
    assert ">hidden<small>0.120 (+0.120)</small>" in stable[3]
    assert ">falls<small>0.500" in fallen[1]
    assert 'class="visible"' in fallen[3]
    for word in ("hidden", "visible"):
        assert f'<span class="{word}">{word}</span> worse while accuracy' in judged.source
    assert "two one-sided tests show that it is within 0.02 of the unpruned 0.88" in judged.text


def test_the_numbers_behind_a_verdict_can_be_opened(judged: ReportPage, judged_lake: Path) -> None:
    summaries = re.findall("<details><summary>(.*?)</summary>", judged.source)
    assert summaries[1:] == ["n, intervals and adjusted p of each verdict"]
    rows = table_rows(judged, "The numbers behind the verdicts")
    (ece,) = (row for row in rows if ">1<" in row[0] and ">ECE<" in row[1])
    cells = [cell.partition(">")[2].removesuffix("</td>") for cell in ece[2:]]
    assert cells[:2] == ["400", "0.120"]
    (known,) = query(
        judged_lake,
        "select ci_low, ci_high, delta_low, delta_high from metrics inner join deltas "
        "using (level, metric) where level = 1 and metric = 'ece' "
        "and metrics.variant is null and deltas.variant is null",
    ).rows()
    ci_low, ci_high, delta_low, delta_high = (f"{value:.3f}" for value in known)
    assert cells[2:5] == [f"{ci_low} to {ci_high}", "+0.120", f"{delta_low} to {delta_high}"]
    assert cells[5:] == ["&lt; 0.001", "", "hidden", ""]
    accuracy = next(row for row in rows if ">2<" in row[0])
    assert ">accuracy<" in accuracy[1]


def test_correlations_have_scopes_intervals_and_notes(
    judged: ReportPage, judged_lake: Path
) -> None:
    rows = table_rows(judged, "Correlation of each metric with accuracy")
    everywhere, stable = (row for row in rows if ">ECE<" in row[0])
    assert ">all (3)<" in everywhere[1]
    minus = "\N{MINUS SIGN}"
    sql = "select pearson, pearson_low, pearson_high from correlations"
    (known,) = query(judged_lake, f"{sql} where metric = 'ece' and scope = 'all'").rows()
    pearson, low, high = (f"{value:.2f}".replace("-", minus) for value in known)
    assert f">{pearson}<small>{low} to {high}</small>" in everywhere[2]
    assert ">stable (2)<" in stable[1]
    assert ">\N{EN DASH}<" in stable[2]
    assert "fewer than 3 levels" in stable[6]


@pytest.mark.usefixtures("without_charts")
@pytest.mark.parametrize(
    ("levels", "text"),
    [([0, 1, 2, 3], "0 to 3"), ([0, 1, 4], "0, 1, 4"), ([0, 2, 3, 4, 8], "0, 2 to 4, 8")],
)
def test_the_table_of_runs_has_levels_and_costs(
    tmp_path: Path, levels: list[int], text: str
) -> None:
    explained_run(
        tmp_path, drops={}, levels=levels, forward_tokens=1234567, duration_s=61.4, device="cuda"
    )
    page = report(tmp_path, tmp_path / "report.html")
    table = re.search(r"<caption><span>The runs.*?</table>", page.source)
    assert table
    cells = re.findall(r"<td[^>]*>(.*?)</td>", table[0])
    assert cells[:6] == ["4", text, "float32", "cuda", "1,234,567", "61"]
    assert f"<code>{'0' * 12}</code>" in page.source
