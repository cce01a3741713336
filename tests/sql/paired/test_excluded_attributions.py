"""Attributions with a problem, or with another number of tokens: excluded, and without pairs."""

import math
from pathlib import Path

import pytest

from tests.support.runs.lake_rows import (
    RUN_NAMES,
    attribution,
    example,
    rows_of,
    run_row,
    write,
    write_raw,
)
from tests.support.runs.one_run import DOWN, RUN, UP, R

NO_NUMBER = "an attribution score is NaN, infinite or missing"
OTHER_COUNT = "its attribution has another number of tokens than the prompt"


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        ([1.0, math.nan, 2.0], NO_NUMBER),
        ([1.0, math.inf, 2.0], NO_NUMBER),
        ([1.0, None, 2.0], NO_NUMBER),
        ([], NO_NUMBER),
        (None, NO_NUMBER),
        ([1.0, 2.0], OTHER_COUNT),
        ([1.0, 2.0, 3.0, 4.0], OTHER_COUNT),
    ],
)
def test_an_attribution_with_a_problem_is_excluded_and_has_no_pairs(
    tmp_path: Path, scores: list[float | None] | None, reason: str
) -> None:
    write(
        tmp_path,
        RUN,
        examples=[example(R, "a"), example(R, "b")],
        attributions=[
            attribution(R, 0, "a", UP),
            # All its seeds and methods have the same problem, which is one reason.
            *(
                attribution(R, 1, "a", [], method, seed) | {"scores": scores}
                for method in ("lime", "kernel_shap")
                for seed in (0, 1)
            ),
        ],
    )
    assert rows_of(tmp_path, "select level, other_level from attribution_pairs") == [
        {"level": 0, "other_level": 0}
    ]
    assert rows_of(tmp_path, "from agreement where level = 1") == []
    assert rows_of(tmp_path, "from excluded") == [
        {"run_id": R, "level": 1, "example_id": "a", "reason": reason} | RUN_NAMES
    ]


def test_an_example_may_be_excluded_for_several_reasons(tmp_path: Path) -> None:
    write_raw(
        tmp_path,
        RUN,
        examples=[example(R, "a")],
        attributions=[
            attribution(R, 0, "a", [1, 2]),
            attribution(R, 0, "a", [1, 2, math.nan], seed=1),
            attribution(R, 0, "a", UP, seed=2),
        ],
    )
    rows = rows_of(tmp_path, "select example_id, reason from excluded order by reason")
    assert [r["reason"] for r in rows] == [NO_NUMBER, OTHER_COUNT]
    # The seed without a problem still counts.
    assert rows_of(tmp_path, "select seed from paired_attributions") == [{"seed": 2}]


def test_different_token_counts_make_no_pair_if_the_prompt_is_unknown(tmp_path: Path) -> None:
    write_raw(
        tmp_path,
        RUN,
        examples=[example(R, "a", prompt_tokens=[])],
        attributions=[
            attribution(R, 0, "a", UP),
            attribution(R, 1, "a", DOWN),
            attribution(R, 2, "a", [1, 2]),
            # The run has no row of this example in `examples`, either.
            attribution(R, 0, "b", [1, 2]),
        ],
    )
    pairs = rows_of(
        tmp_path,
        "select level, other_level from attribution_pairs "
        "where example_id = 'a' order by level, other_level",
    )
    assert [tuple(r.values()) for r in pairs] == [(0, 0), (1, 0), (1, 1), (2, 2)]
    assert rows_of(tmp_path, "select level from level_overlaps where n = 1 and level = 2") == [
        {"level": 2}
    ]
    assert rows_of(tmp_path, "from excluded") == []


def test_token_counts_are_compared_with_the_prompt_of_the_same_run(tmp_path: Path) -> None:
    write_raw(tmp_path, RUN, examples=[example(R, "a")], attributions=[attribution(R, 0, "a", UP)])
    other = run_row("other")
    o = str(other["run_id"])
    write_raw(
        tmp_path,
        other,
        examples=[example(o, "a", prompt_tokens=["Is", "it?"])],
        attributions=[attribution(o, 0, "a", [1, 2])],
    )
    assert rows_of(tmp_path, "from excluded") == []
    assert len(rows_of(tmp_path, "from attributions")) == 2
