"""The files of a gate: JSON for programs, JUnit for CI servers, Markdown for pull requests."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from prunelake.errors import InvalidSpec, one_line
from prunelake.gate.results import EXIT_CODES, Check, GateResult, Result
from prunelake.gate.table_cells import COLUMNS, cells, criterion_text, sentence

Outcome = GateResult | str
"""The result of a gate, or the message of the error that prevented it."""

ERROR_CODE = 2
"""The exit code of `prunelake gate` after an error."""

NOT_IN_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
MARKDOWN_SYNTAX = re.compile(r"([\\`*_{}\[\]<>#|~])")


def check_report_paths(paths: Mapping[str, Path | None], gate_file: Path) -> None:
    """Raise unless the files can be written, before anything is computed.

    Raises:
        InvalidSpec: a path is a folder, the gate file or the path of another report, or its folder
            does not exist.
    """
    taken = {gate_file.absolute(): "the gate file"}
    for name, path in paths.items():
        if path is None:
            continue
        place = path.absolute()
        problem = f"is {taken[place]}" if place in taken else None
        if place.is_dir():
            problem = "is a folder"
        elif not place.parent.is_dir():
            problem = "lies in no folder that exists"
        if problem:
            raise InvalidSpec(f"--{name} {path}: {problem}; name a new file in an existing folder")
        taken[place] = f"the file of --{name}"


def write_reports(outcome: Outcome, paths: Mapping[str, Path | None]) -> None:
    """Write the files whose path is given: `json`, `junit`, `markdown`.

    After an error they hold its message, so that no file of an earlier gate stays.

    Raises:
        InvalidSpec: a file cannot be written.
    """
    for name, path in paths.items():
        if path is not None:
            try:
                path.write_text(REPORTS[name](outcome), encoding="utf-8")
            except OSError as error:
                raise InvalidSpec(f"--{name} {path}: not written ({one_line(error)})") from error


def json_report(outcome: Outcome) -> str:
    """The result with all numbers of its checks; unknown numbers are null."""
    if isinstance(outcome, str):
        fields = {"result": "error", "exit_code": ERROR_CODE, "summary": outcome, "checks": []}
    else:
        fields = {
            "result": outcome.result,
            "exit_code": EXIT_CODES[outcome.result],
            "summary": outcome.summary,
            "candidates": outcome.by_candidate,
            "checks": [check.model_dump(mode="json") for check in outcome.checks],
        }
    return json.dumps(fields, indent=2, allow_nan=False) + "\n"


def junit_report(outcome: Outcome) -> str:
    """One test suite for each task, one test case for each check.

    A failed check is a failure. An undecided check is an error: a skipped test case would look as
    if it had passed.
    """
    root = ElementTree.Element("testsuites", name="prunelake gate")
    if isinstance(outcome, str):
        suite = ElementTree.SubElement(root, "testsuite", name="prunelake gate")
        case = ElementTree.SubElement(suite, "testcase", classname="prunelake.gate", name="gate")
        ElementTree.SubElement(case, "error", type="error", message=_xml_text(outcome))
    else:
        for task in dict.fromkeys(check.task for check in outcome.checks):
            suite = ElementTree.SubElement(root, "testsuite", name=_xml_text(task))
            suite.extend(_test_case(check) for check in outcome.checks if check.task == task)
    for element in (root, *root):
        for count, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error")):
            element.set(count, str(len([*element.iter(tag)])))
    ElementTree.indent(root)
    declaration = '<?xml version="1.0" encoding="UTF-8"?>\n'
    return declaration + ElementTree.tostring(root, encoding="unicode") + "\n"


def _test_case(check: Check) -> ElementTree.Element:
    case = ElementTree.Element(
        "testcase",
        classname=_xml_text(f"prunelake.gate.{check.task}"),
        name=_xml_text(f"{criterion_text(check)}, {check.candidate}"),
    )
    element = {Result.failed: "failure", Result.undecided: "error"}.get(check.result)
    if element is not None:
        text = _xml_text(sentence(check))
        ElementTree.SubElement(case, element, type=check.result, message=text).text = text
    return case


def markdown_report(outcome: Outcome) -> str:
    """A heading, a sentence for each check that has not passed, and the table of all checks."""
    if isinstance(outcome, str):
        return f"## PruneLake: error\n\nThe gate was not checked: {_escaped(outcome)}\n"
    lines = [f"## PruneLake: {outcome.result}", "", _escaped(outcome.summary), ""]
    for result in (Result.failed, Result.undecided):
        lines += [f"- **{result}**: {_escaped(sentence(c))}" for c in outcome.with_result(result)]
    header = ("task", *COLUMNS)
    if lines[-1]:
        lines.append("")
    lines += [_row(header), _row(["---"] * len(header))]
    for check in outcome.checks:
        lines.append(_row([_escaped(text) for text in (check.task, *cells(check))]))
    return "\n".join(lines) + "\n"


def _row(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _escaped(text: str) -> str:
    """A text in which Markdown finds no syntax, on one line."""
    return MARKDOWN_SYNTAX.sub(r"\\\1", " ".join(text.split()))


def _xml_text(text: str) -> str:
    """A text without the characters that XML does not allow."""
    return NOT_IN_XML.sub("\ufffd", text)


REPORTS: Mapping[str, Callable[[Outcome], str]] = {
    "json": json_report,
    "junit": junit_report,
    "markdown": markdown_report,
}
