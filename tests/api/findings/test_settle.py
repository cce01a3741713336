"""The sweep that settles the open questions of a run: in words, at the API and in the report."""

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from prunelake.analysis.analyse import analyse
from prunelake.api.findings.headline import headline
from prunelake.api.findings.settle import settled_by, settling_sentence
from prunelake.api.report.document import write_report
from prunelake.cli.text.terminal import print_summary
from prunelake.command_line import SettlingSweep
from prunelake.comparison_spec import ComparisonSpec
from prunelake.errors import WrongFormat
from prunelake.identity import ComparisonIdentity, stored_spec
from prunelake.lake.publish import publish
from prunelake.schema.verdicts import Verdict
from prunelake.spec import Explanation, Rows, SequentialDesign, SweepSpec
from tests.support.api.api_client import api_client
from tests.support.api.report_page import draw_only
from tests.support.runs.criteria_runs import Loss, compared_run
from tests.support.runs.example_runs import metric_rows
from tests.support.runs.lake_rows import run_row

SPEC = SweepSpec(model="tiny", task="demo", rows=Rows(sample=80), explain=Explanation(rows=10))
UNSURE: Loss = (0.01, 0.03)


def run(**columns: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"spec": SPEC.model_dump_json(), "example_count": 80}
    return run_row(**given | columns)


VALUES: dict[str, Any] = {"accuracy": {0: 0.9, 1: 0.9}, "sufficiency": {0: 0.1, 1: 0.2}}


def test_the_command_extends_the_run_to_the_rows_that_open_verdicts_need() -> None:
    rows = metric_rows(**VALUES, verdicts={"sufficiency": {1: Verdict.inconclusive}})
    command = "prunelake sweep --model tiny --task demo --rows sample:1300 --explain-rows 1300"
    assert settled_by(run(), rows) == SettlingSweep(command, "")
    assert settling_sentence(run(), rows) == f"To settle the inconclusive verdicts: {command}"
    of_answers = metric_rows(**VALUES, verdicts={"accuracy": {1: Verdict.inconclusive}})
    fewer = SettlingSweep(command.replace("rows 1300", "rows 10"), "")
    assert settled_by(run(), of_answers) == fewer


def test_a_task_with_too_few_rows_is_named_instead_of_an_impossible_command() -> None:
    rows = metric_rows(**VALUES, verdicts={"sufficiency": {1: Verdict.inconclusive}})
    small = run(spec=SPEC.model_copy(update={"split_rows": 500}).model_dump_json())
    assert settling_sentence(small, rows) == (
        "Task demo has 500 rows, fewer than the 1,300 that would settle the inconclusive verdicts. "
        "To use all of them: prunelake sweep --model tiny --task demo --rows sample:500 "
        "--explain-rows 500"
    )


def test_there_is_no_command_without_a_question_a_sweep_or_accuracy() -> None:
    decided = metric_rows(**VALUES, verdicts={"accuracy": {1: Verdict.equivalent}})
    assert settled_by(run(), decided) is None
    assert settling_sentence(run(), decided) == ""
    unsure = metric_rows(**VALUES, verdicts={"accuracy": {1: Verdict.inconclusive}})
    assert settled_by(run(identity='{"kind": "import"}'), unsure) is None
    unreadable = run(spec="{}")
    assert settled_by(unreadable, unsure) is None
    with pytest.raises(WrongFormat, match="task: Field required"):
        stored_spec(unreadable)
    design = SequentialDesign(margin=0.02, planned_rows=80)
    sequential = SPEC.model_copy(update={"sequential": design})
    assert settled_by(run(spec=sequential.model_dump_json()), unsure) is None
    assert settling_sentence(run(spec=sequential.model_dump_json()), unsure).startswith(
        "Sequential: look 1 at a growing sample."
    )
    lost = {
        "accuracy": {1: Verdict.visible_degradation},
        "sufficiency": {1: Verdict.inconclusive},
    }
    assert settled_by(run(), metric_rows(**VALUES, verdicts=lost)) is None


def test_a_comparison_is_settled_by_a_larger_comparison() -> None:
    spec = ComparisonSpec.model_validate(
        {
            "baseline": "hub:org/base",
            "candidates": ["int8=./int8"],
            "task": "demo",
            "rows": 80,
            "explain": {"methods": ["lime"], "rows": 10},
        }
    )
    identity = ComparisonIdentity(format_version=3, compared=(), explain=None)
    compared = run(spec=spec.model_dump_json(), identity=identity.model_dump_json())
    unsure = metric_rows(**VALUES, verdicts={"accuracy": {1: Verdict.inconclusive}})
    assert settling_sentence(compared, unsure) == (
        "To settle the inconclusive verdicts: prunelake compare hub:org/base int8=./int8 --task "
        "demo --rows 1300 --methods lime --explain-rows 10"
    )
    labelled = metric_rows(
        **VALUES, labels=("base", "int8"), verdicts={"accuracy": {1: Verdict.inconclusive}}
    )
    assert headline(compared, labelled) == "No verdict is decided"


def test_api_report_and_terminal_end_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_only(monkeypatch)
    lake = tmp_path / "lake"
    run_id = compared_run(lake, "run", {1: {"ece": UNSURE}}, spec=SPEC.model_dump_json())
    publish(lake, analyse)
    with api_client(lake) as client:
        command = client.get("/findings").json()["settled_by"]
    assert command.startswith("prunelake sweep --model tiny --task demo --rows sample:")
    write_report(lake, tmp_path / "report.html")
    sentence = f"To settle the inconclusive verdicts: {command}"
    assert sentence in (tmp_path / "report.html").read_text()
    console = Console(width=500, record=True)
    print_summary(lake, [run_id], console)
    assert sentence in console.export_text()
