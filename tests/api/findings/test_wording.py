from typing import Any

import pytest

from prunelake.api.findings import wording
from prunelake.api.findings.level_names import LevelNames
from tests.support.page.number_examples import NUMBER_EXAMPLES


@pytest.mark.parametrize(("function", "values", "text"), NUMBER_EXAMPLES)
def test_numbers_as_text(function: str, values: list[Any], text: str) -> None:
    assert getattr(wording, function)(*values) == text


@pytest.mark.parametrize(
    ("chosen", "among", "text"),
    [
        ([0, 1, 2, 3], None, "0 to 3"),
        ([0, 1, 4], None, "0, 1, 4"),
        ([0, 2, 3, 4, 8], None, "0, 2 to 4, 8"),
        ([2, 4, 6, 10], [0, 2, 4, 6, 8, 10], "2 to 6, 10"),
        ([1, 2, 3], [0, 1, 2, 3], "1 to 3"),
        ([], None, ""),
    ],
)
def test_neighbouring_numbers_become_ranges(
    chosen: list[int], among: list[int] | None, text: str
) -> None:
    assert wording.ranges(chosen, among) == text


def test_parts_are_enumerated() -> None:
    assert wording.listed(["a"]) == "a"
    assert wording.listed(["a", "b"]) == "a and b"
    assert wording.listed(["a", "b", "c"]) == "a, b and c"


def test_names_read_as_in_a_sentence() -> None:
    assert wording.label("ece") == "ECE"
    assert wording.label("brier_refinement") == "Brier refinement"
    assert wording.label("not_named_here") == "not named here"
    assert wording.order_name("random:3") == "random:3 order"
    assert wording.order_name("") == "order not known"


def test_levels_are_named_by_their_ranges() -> None:
    assert wording.at_levels([4], [0, 2, 4]) == "level 4"
    assert wording.at_levels([1, 2, 3, 6], [0, 1, 2, 3, 4, 6]) == "levels 1 to 3 and 6"


def test_two_different_values_do_not_look_equal() -> None:
    assert wording.from_to(0.1, 0.2) == "0.10 to 0.20"
    assert wording.from_to(0.101, 0.104) == "0.101 to 0.104"
    assert wording.from_to(None, 0.5) == "\N{EN DASH} to 0.50"


def test_names_in_right_to_left_scripts_are_isolated() -> None:
    hebrew, arabic = "\u05d3\u05d2\u05dd-4", "\u0646\u0645\u0648\u0630\u062c"
    names = LevelNames({0: "int8", 1: hebrew, 2: arabic})
    assert names.at([1, 2]) == f"for \u2068{hebrew}\u2069 and \u2068{arabic}\u2069"
    assert names.name(1) == f"\u2068{hebrew}\u2069"
    assert names.short(0) == "int8 (baseline)"
    for plain in (
        "SmolLM2",
        "\u00e9t\u00e9",
        "\u041c\u043e\u0434\u0435\u043b\u044c",
        "\u6a21\u578b",
    ):
        assert wording.isolated(plain) == plain
