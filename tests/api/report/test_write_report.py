"""The runs in the report, its path, and errors."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from prunelake.api.report.document import write_report
from prunelake.cli.app import app
from prunelake.errors import LakeError, PruneLakeError
from tests.support.api.report_page import report, table_rows
from tests.support.lakes.lake_files import forget_analysis
from tests.support.runs.example_runs import explained_run, judged_run
from tests.support.runs.lake_rows import run_row, write


@pytest.mark.usefixtures("without_charts")
def test_several_runs_are_listed_and_pooled_with_a_warning(tmp_path: Path) -> None:
    judged_run(tmp_path, task="judged_task")
    for name, offset in (("a", 0.0), ("b", 0.5)):
        run = run_row(name, levels=[0, 1, 2, 3, 4], example_count=0, task=name, strategy="random")
        cell = {"run_id": run["run_id"], "method": "", "operator": "", "variant": ""}
        # Within a run ECE falls where accuracy rises; between the runs both are higher.
        reported = [
            cell | {"level": level, "metric": metric, "value": offset + sign * level / 32 + base}
            for level in range(5)
            for metric, sign, base in (
                ("accuracy", -1, 0.25),
                ("ece", 1, 0.125),
                ("auroc", -1, 0.25),
            )
        ]
        write(tmp_path, run, reported=reported)
    page = report(tmp_path, tmp_path / "report.html")
    assert (
        "judged_task : Without 1 attention layer, hidden degradation of ECE (0.00 to 0.12),"
        in page.text
    )
    assert (
        "Pooling the runs misleads (Simpson's paradox): the correlation with accuracy has "
        "the opposite sign within runs for ECE ("
    ) in page.text
    assert "AUROC" not in page.text.partition("(Simpson's paradox)")[2].partition(".</p>")[0][:200]
    rows = table_rows(page, "Correlation of each metric with accuracy over all levels of several")
    of_auroc, row = rows
    assert "opposite signs" not in of_auroc[4]
    assert "opposite signs" in row[4]
    assert 'class="visible"' in row[3]
    assert "10 points" in row[1]


def test_a_lake_without_runs_says_how_to_fill_it(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    lake.mkdir()
    page = report(lake, tmp_path / "report.html")
    assert "holds no runs yet" in page.text
    assert "prunelake demo" in page.text
    assert page.tags["svg"] == 0


@pytest.mark.usefixtures("without_charts")
def test_a_report_of_chosen_runs(tmp_path: Path) -> None:
    chosen = explained_run(tmp_path, "a", {}, task="chosen_task")
    explained_run(tmp_path, "b", {}, task="other_task")
    page = report(tmp_path, tmp_path / "report.html", run_ids=[chosen])
    assert "chosen_task" in page.text
    assert "other_task" not in page.text
    with pytest.raises(LakeError, match="no complete run 'absent' in"):
        write_report(tmp_path, tmp_path / "report.html", ["absent", chosen])


def test_an_unwritable_path_is_an_error_of_one_line_and_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir()
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.rglob("*"))
    for out in (tmp_path / "folder", tmp_path / "absent" / "report.html"):
        with pytest.raises(PruneLakeError, match="could not be written: ") as raised:
            write_report(tmp_path / "lake", out)
        assert str(out) in str(raised.value)
        assert "\n" not in str(raised.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_without_a_lake_the_old_report_stays(tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    out.write_text("old")
    with pytest.raises(LakeError, match="no lake at"):
        write_report(tmp_path / "absent", out)
    assert out.read_text() == "old"
    (tmp_path / "lake").mkdir()
    assert "holds no runs yet" in report(tmp_path / "lake", out).text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lake", "report.html"]


@pytest.mark.usefixtures("without_charts")
@pytest.mark.parametrize("command", [["report"], ["sql", "select 1 as one"]])
def test_commands_warn_of_runs_without_analysis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    lake = tmp_path / "lake"
    run_id = explained_run(lake, drops={})
    explained_run(lake, "other", drops={})
    command = [*command, "--lake", str(lake)]
    before = CliRunner().invoke(app, command)
    forget_analysis(lake, run_id)
    after = CliRunner().invoke(app, command)
    assert (before.exit_code, before.stderr) == (0, "")
    assert (after.exit_code, after.stdout) == (0, before.stdout)
    assert after.stderr == (
        "runs without an analysis, so without intervals and verdicts: 1; "
        "`prunelake analyse` computes the analyses\n"
    )
