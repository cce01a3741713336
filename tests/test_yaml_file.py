"""Errors in YAML name the line, the field and the remedy."""

import pytest

from prunelake.errors import InvalidSpec
from prunelake.spec import Rows, SweepSpec
from prunelake.yaml_file import validate_yaml


def read(text: str) -> SweepSpec:
    return validate_yaml(text, SweepSpec, "a.yaml", example="task: boolq")


def test_a_text_becomes_a_value_and_defaults_fill_missing_fields() -> None:
    assert read("task: boolq\nrows: 5") == SweepSpec(task="boolq", rows=Rows(first=5))
    named = validate_yaml("rows: {sample: 5}", SweepSpec, "a.yaml", "", task="rte")
    assert named == SweepSpec(task="rte", rows=Rows(sample=5))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a.yaml is empty; write at least `task: boolq`"),
        ("# nothing", "a.yaml is empty; write at least `task: boolq`"),
        ("task: [\n", "a.yaml, line 2: not YAML (expected the node content, but found "),
        ("model: x", "a.yaml, task: is missing"),
        ("task: boolq\n\nrowz: 3", "a.yaml, line 3, rowz: no such field; did you mean rows?"),
        ("task: boolq\ncolour: 3", "a.yaml, line 2, colour: no such field; choose from model, "),
        (
            "task: boolq\nexplain:\n  rows: 3\n  sedes: [0]",
            "a.yaml, line 4, explain.sedes: no such field; did you mean seeds?",
        ),
        (
            "task: boolq\nexplain:\n  seeds:\n  - 0\n  - -1",
            "a.yaml, line 5, explain.seeds.1: Input should be greater than or equal to 0",
        ),
        (
            "task: boolq\nrows: many",
            "a.yaml, line 2, rows: 'many' has no fields; write at least one of first, sample, ",
        ),
        ("task: 5", "a.yaml, line 1, task: 5 is not a text; write it in quotes"),
        ("task: boolq\nrows: {first: 1, sample: 1}", "a.yaml, line 2, rows: give one of first, "),
        ("task: boolq\nrows: 3\nrows: 5", "a.yaml, line 3: rows is also in line 2; leave one out"),
        (
            "task: boolq\nexplain:\n  rows: 3\n  rows: 5",
            "a.yaml, line 4: rows is also in line 3; leave one out",
        ),
        ("task: " + "[" * 9999, "a.yaml: its values are nested too deep"),
        ("rows: " + "9" * 9999, "a.yaml: a value cannot be read (ValueError: Exceeds the limit"),
        ("task: 2026-99-99", "a.yaml: a value cannot be read (ValueError: month must be in 1..12"),
        ("- task", "a.yaml, file: ['task'] has no fields; write at least one of model, commit, "),
    ],
)
def test_an_error_names_line_field_and_remedy(text: str, message: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        read(text)
    assert str(caught.value).startswith(message)
