"""The files of a gate, read back by an XML parser, a JSON parser and a reader of Markdown."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from prunelake.errors import InvalidSpec
from prunelake.gate.reports import (
    check_report_paths,
    json_report,
    junit_report,
    markdown_report,
    write_reports,
)
from prunelake.gate.results import Check, GateResult, Result

PASSED = Check(
    metric="accuracy",
    task="boolq",
    candidate="int8",
    run_id="run",
    level=1,
    method=None,
    operator=None,
    variant=None,
    direction="higher",
    margin=0.02,
    baseline_value=0.75,
    value=0.745,
    change=-0.005,
    change_low=-0.015,
    change_high=0.005,
    se=0.006,
    n=1000,
    p_worse=0.99,
    p_worse_adjusted=1.0,
    result=Result.passed,
    n_needed=None,
    note=None,
)
FAILED = PASSED.model_copy(
    update={
        **{"metric": "flip_rate", "direction": "lower", "margin": 0.05, "baseline_value": 0.0},
        **{"value": 0.12, "change": 0.12, "change_low": 0.1, "change_high": 0.14},
        "result": Result.failed,
    }
)
UNDECIDED = PASSED.model_copy(
    update={
        **{"task": "a|b\x00<c>", "candidate": "int4_x", "change_low": -0.03, "n_needed": 2345},
        "result": Result.undecided,
    }
)
RESULT = GateResult(result=Result.failed, checks=(PASSED, FAILED, UNDECIDED))
SUMMARY = (
    "The gate has failed: 1 passed, 1 failed, 1 undecided. Candidates: int8 has failed, int4_x is "
    "undecided."
)
SENTENCE = (
    "flip rate of int8 on boolq: 0.1200 after 0.0000, a change of +0.1200 (+0.1000 to +0.1400); "
    "the margin is +0.05."
)


def test_json_has_every_number_and_the_exit_code() -> None:
    report = json.loads(json_report(RESULT))
    assert (report["result"], report["exit_code"]) == ("failed", 1)
    assert report["summary"] == SUMMARY
    assert report["candidates"] == {"int8": "failed", "int4_x": "undecided"}
    assert report["checks"] == [check.model_dump() for check in RESULT.checks]


def test_junit_has_a_suite_for_each_task_and_a_case_for_each_check() -> None:
    root = ElementTree.fromstring(junit_report(RESULT))
    assert root.tag == "testsuites"
    counts = [{k: e.get(k) for k in ("tests", "failures", "errors")} for e in (root, *root)]
    assert [(int(c["tests"] or 0), c["failures"], c["errors"]) for c in counts] == [
        (3, "1", "1"),
        (2, "1", "0"),
        (1, "0", "1"),
    ]
    assert [suite.get("name") for suite in root] == ["boolq", "a|b\ufffd<c>"]
    cases = {case.get("name"): [*case] for case in root.iter("testcase")}
    assert [*cases] == ["accuracy, int8", "flip rate, int8", "accuracy, int4_x"]
    assert cases["accuracy, int8"] == []
    (failure,) = cases["flip rate, int8"]
    assert (failure.tag, failure.get("message"), failure.text) == ("failure", SENTENCE, SENTENCE)
    (error,) = cases["accuracy, int4_x"]  # a skipped case would count as success
    assert error.tag == "error"
    assert "About 2,345 rows would decide (now 1,000)." in str(error.get("message"))


def test_markdown_can_be_read_aloud_and_names_cannot_break_it() -> None:
    lines = markdown_report(RESULT).splitlines()
    assert lines[0] == "## PruneLake: failed"
    assert lines[2] == SUMMARY.replace("_", "\\_")
    assert lines[4] == f"- **failed**: {SENTENCE}"
    assert lines[5].startswith("- **undecided**: accuracy of int4\\_x on a\\|b\x00\\<c\\>: 0.7450 ")
    header, rule, *rows = lines[7:]
    assert header.split(" | ")[0] == "| task"
    assert {line.replace("\\|", "").count("|") for line in (header, rule, *rows)} == {10}
    assert rows[1].split(" | ")[5:] == ["+0.1200 (+0.1000 to +0.1400)", "+0.05", "failed", " |"]
    assert rows[2].split(" | ")[-1] == "2,345 |"


def test_an_error_replaces_the_files_of_an_earlier_gate(tmp_path: Path) -> None:
    paths = {name: tmp_path / name for name in ("json", "junit", "markdown")}
    write_reports(RESULT, paths)
    write_reports("no lake & no <run>", paths)
    assert json.loads(paths["json"].read_text())["exit_code"] == 2
    (error,) = ElementTree.parse(paths["junit"]).getroot().iter("error")
    assert error.get("message") == "no lake & no <run>"
    assert "The gate was not checked: no lake & no \\<run\\>" in paths["markdown"].read_text()


def test_files_that_cannot_be_written_are_refused_before_anything_is_computed(
    tmp_path: Path,
) -> None:
    gate, other = tmp_path / "gate.yaml", tmp_path / "a"
    refused: list[tuple[dict[str, Path | None], str]] = [
        ({"json": tmp_path}, r"--json .* is a folder; name a new file in an existing folder"),
        ({"junit": tmp_path / "none" / "a.xml"}, r"--junit .* lies in no folder that exists"),
        ({"markdown": gate}, r"--markdown .* is the gate file"),
        ({"json": other, "junit": None, "markdown": other}, r"--markdown .* is the file of --json"),
    ]
    for paths, message in refused:
        with pytest.raises(InvalidSpec, match=message):
            check_report_paths(paths, gate)
    check_report_paths({"json": other, "junit": None}, gate)
    with pytest.raises(InvalidSpec, match="--json /dev/full: not written"):
        write_reports(RESULT, {"json": Path("/dev/full")})
