"""Every method of attribution is defined, and described for readers."""

from typing import get_args

import pytest

from prunelake.explanation_spec import METHODS, Explanation, Method
from tests.support.paths import ROOT


def test_every_method_has_a_definition() -> None:
    assert set(METHODS) == {*get_args(Method)}, "change both in explanation_spec.py"


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_described_to_readers(method: str) -> None:
    text = (ROOT / "docs/evaluate.md").read_text(encoding="utf-8")
    assert f"`{method}`" in text, "docs/evaluate.md, the table of methods"


OF_ALL_METHODS = {
    *("methods", "seeds", "operators", "fractions", "bounds_beam"),
    *("rows", "levels", "level_rows"),
}
"""Fields that determine which rows a run has, but not the scores of a row."""


def test_every_setting_belongs_to_a_method() -> None:
    of_methods = {name for definition in METHODS.values() for name in definition.settings}
    unknown = {*Explanation.model_fields} - of_methods - OF_ALL_METHODS
    assert not unknown, (
        f"{unknown}: runs would share scores that differ in it; add it to METHODS, or to "
        "OF_ALL_METHODS here if no score depends on it"
    )
