"""Views that compare attributions: expected rows by hand; on random rows sets and scipy."""

import math
import tempfile
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from tests.support.endurance import repeats
from tests.support.lake_rows import (
    RUN_NAMES,
    attribution,
    example,
    rows_of,
    run_row,
    write,
    write_raw,
)

RUN = run_row("run")
R = str(RUN["run_id"])
UP, DOWN = [1.0, 2.0, 3.0], [3.0, 2.0, 1.0]
NO_NUMBER = "an attribution score is NaN, infinite or missing"
OTHER_COUNT = "its attribution has another number of tokens than the prompt"

# (level, seed) of a small run.
LEVELS_AND_SEEDS = list(product(range(3), range(2)))
Scores = dict[tuple[int, int], list[float]]

# Few distinct scores make ties, also of the two zeros.
score = st.sampled_from([-1.0, -0.5, -0.0, 0.0, 0.25, 1.0]) | st.floats(-1, 1, width=32)
random_scores = st.integers(1, 30).flatmap(
    lambda n: st.fixed_dictionaries(
        {place: st.lists(score, min_size=n, max_size=n) for place in LEVELS_AND_SEEDS}
    )
)


def overlap(one: Sequence[float], other: Sequence[float], k: int) -> float:
    return len(top(one, k) & top(other, k)) / min(k, len(one))


def top(values: Sequence[float], k: int) -> set[int]:
    return set(sorted(range(len(values)), key=lambda i: (-values[i], i))[:k])


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float | None:
    if len(set(one)) == 1 or len(set(other)) == 1:
        return None
    return float(spearmanr(one, other).statistic)


def agreement_of(one: Sequence[float], other: Sequence[float]) -> dict[str, Any]:
    overlaps: dict[str, float | None] = {
        f"overlap_{k}": overlap(one, other, k) for k in (5, 10, 20)
    }
    return overlaps | {"spearman": rank_correlation(one, other)}


def about(values: dict[str, Any]) -> dict[str, Any]:
    return {k: pytest.approx(v) if isinstance(v, float) else v for k, v in values.items()}


def lake_of(folder: str, examples: list[Scores]) -> Path:
    write_raw(
        Path(folder),
        RUN,
        attributions=[
            attribution(R, level, f"test:{i}", scores, seed=seed)
            for i, places in enumerate(examples)
            for (level, seed), scores in places.items()
        ],
    )
    return Path(folder)


def mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def test_overlap_and_spearman_equal_values_worked_by_hand(tmp_path: Path) -> None:
    write_raw(
        tmp_path,
        RUN,
        attributions=[
            attribution(R, 0, "a", [6, 5, 4, 3, 2, 1]),
            attribution(R, 1, "a", [1, 5, 4, 3, 2, 6]),
        ],
    )
    # Top 5 lose the last and the first token. Rank differences 5, 0, 0, 0, 0, -5:
    # 1 - 6 x 50 / (6 x 35) = -3/7.
    assert rows_of(tmp_path, "from paired_attributions where level = 1") == [
        {
            "run_id": R,
            "level": 1,
            "example_id": "a",
            "method": "lime",
            "seed": 0,
            "token_count": 6,
            "overlap_5": 0.8,
            "overlap_10": 1,
            "overlap_20": 1,
            "spearman": pytest.approx(-3 / 7),
        }
    ]


def test_the_earlier_of_two_tokens_with_equal_scores_ranks_higher(tmp_path: Path) -> None:
    write_raw(
        tmp_path,
        RUN,
        attributions=[
            attribution(R, 0, "a", [0.0] * 10),
            attribution(R, 1, "a", [0.0] * 5 + [1.0] * 5),
            attribution(R, 2, "a", [1.0] * 5 + [0.0] * 5),
        ],
    )
    rows = rows_of(tmp_path, "select overlap_5, spearman from paired_attributions order by level")
    assert [r["overlap_5"] for r in rows] == [1, 0, 1]
    # The rank correlation is undefined if all scores of one attribution are equal.
    assert [r["spearman"] for r in rows] == [None] * 3


@settings(max_examples=repeats(10, 25), deadline=None)
@given(st.lists(random_scores, min_size=1, max_size=3))
def test_overlap_and_spearman_equal_those_of_sets_and_scipy(examples: list[Scores]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lake = lake_of(folder, examples)
        pairs = rows_of(lake, "from attribution_pairs")
        paired = rows_of(lake, "from paired_attributions")
    expected = {
        (f"test:{i}", place, other): about(
            agreement_of(places[place], places[other]) | {"token_count": len(places[place])}
        )
        for i, places in enumerate(examples)
        for place, other in product(LEVELS_AND_SEEDS, LEVELS_AND_SEEDS)
        if other <= place
    }
    names = ("overlap_5", "overlap_10", "overlap_20", "spearman", "token_count")
    by_pair = {
        (r["example_id"], (r["level"], r["seed"]), (r["other_level"], r["other_seed"])): {
            name: r[name] for name in names
        }
        for r in pairs
    }
    assert len(by_pair) == len(pairs)
    assert by_pair == expected
    # Each attribution has one pair with level 0 under its own seed.
    assert len(paired) == len(examples) * len(LEVELS_AND_SEEDS)
    for row in paired:
        key = (row["example_id"], (row["level"], row["seed"]), (0, row["seed"]))
        assert {name: row[name] for name in names} == expected[key]


@settings(max_examples=repeats(10, 25), deadline=None)
@given(st.lists(random_scores, min_size=1, max_size=3))
def test_level_overlaps_average_seeds_then_examples(examples: list[Scores]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = rows_of(lake_of(folder, examples), "from level_overlaps")
    assert len(rows) == 9
    for row in rows:
        level, other = row["level"], row["other_level"]

        def mean_of(
            measure: Callable[[Sequence[float], Sequence[float]], float | None],
            level: int = level,
            other: int = other,
        ) -> float | None:
            return mean(
                [
                    mean([measure(places[level, seed], places[other, seed]) for seed in range(2)])
                    for places in examples
                ]
            )

        assert row == about(
            {
                "run_id": R,
                "method": "lime",
                "level": level,
                "other_level": other,
                "overlap_5": mean_of(lambda one, two: overlap(one, two, 5)),
                "overlap_10": mean_of(lambda one, two: overlap(one, two, 10)),
                "overlap_20": mean_of(lambda one, two: overlap(one, two, 20)),
                "spearman": mean_of(rank_correlation),
                "n": len(examples),
            }
        )
        if level == other:
            assert row["overlap_5"] == 1
            assert row["spearman"] in (1, None)


def test_pairs_have_the_same_method_example_and_run(tmp_path: Path) -> None:
    unpruned = [("a", "lime", 0, UP), ("a", "lime", 1, DOWN), ("a", "kernel_shap", 0, DOWN)]
    write(
        tmp_path,
        RUN,
        attributions=[
            *(attribution(R, 0, e, s, m, seed) for e, m, seed, s in unpruned),
            *(attribution(R, 1, e, UP, m, seed) for e, m, seed, _ in unpruned),
            attribution(R, 1, "b", UP),
        ],
    )
    other = run_row("other")
    write_raw(tmp_path, other, attributions=[attribution(str(other["run_id"]), 0, "a", DOWN)])
    rows = rows_of(
        tmp_path,
        f"select method, seed, spearman from paired_attributions "
        f"where level = 1 and run_id = '{R}' order by method, seed",
    )
    assert [(r["method"], r["seed"], round(r["spearman"])) for r in rows] == [
        ("kernel_shap", 0, -1),
        ("lime", 0, 1),
        ("lime", 1, -1),
    ]
    agreement = rows_of(
        tmp_path, f"select method, spearman, n from agreement where level = 1 and run_id = '{R}'"
    )
    expected = {"kernel_shap": (pytest.approx(-1), 1), "lime": (pytest.approx(0, abs=1e-12), 1)}
    assert {r["method"]: (r["spearman"], r["n"]) for r in agreement} == expected
    assert rows_of(tmp_path, "from attribution_pairs where example_id = 'b'") == [
        {
            "run_id": R,
            "level": 1,
            "example_id": "b",
            "method": "lime",
            "seed": 0,
            "other_level": 1,
            "other_seed": 0,
            "token_count": 3,
            "overlap_5": 1,
            "overlap_10": 1,
            "overlap_20": 1,
            "spearman": 1,
        }
    ]


def test_agreement_averages_seeds_then_examples(tmp_path: Path) -> None:
    write(
        tmp_path,
        RUN,
        attributions=[
            *(attribution(R, 0, "a", UP, seed=seed) for seed in range(3)),
            *(attribution(R, 1, "a", UP, seed=seed) for seed in range(3)),
            attribution(R, 0, "b", UP),
            attribution(R, 1, "b", DOWN),
        ],
    )
    (row,) = rows_of(tmp_path, "from agreement where level = 1")
    assert row == {
        "run_id": R,
        "level": 1,
        "method": "lime",
        "overlap_5": 1,
        "overlap_10": 1,
        "overlap_20": 1,
        "spearman": pytest.approx(0, abs=1e-12),
        "n": 2,
    }


def test_seed_agreement_averages_the_pairs_of_an_example_first(tmp_path: Path) -> None:
    write(
        tmp_path,
        RUN,
        attributions=[
            *(attribution(R, 0, "a", UP, seed=seed) for seed in range(3)),
            attribution(R, 0, "b", UP),
            attribution(R, 0, "b", DOWN, seed=1),
            # A single seed has no other seed to agree with.
            attribution(R, 0, "c", UP),
            attribution(R, 1, "a", UP),
        ],
    )
    key = {"run_id": R, "method": "lime"}
    assert rows_of(tmp_path, "from seed_agreement order by level") == [
        key | {"level": 0, "overlap_10": 1, "spearman": pytest.approx(0, abs=1e-12), "n": 2},
    ]


def test_the_random_ranking_has_no_pairs(tmp_path: Path) -> None:
    write(
        tmp_path,
        RUN,
        attributions=[
            attribution(R, level, "a", UP, method=method, seed=seed)
            for level in (0, 1)
            for method in ("lime", "random")
            for seed in (0, 1)
        ],
    )
    for view in (
        "attribution_pairs",
        "paired_attributions",
        "agreement",
        "seed_agreement",
        "level_overlaps",
    ):
        assert rows_of(tmp_path, f"select distinct method from {view}") == [{"method": "lime"}]


def test_difference_shap_has_pairs_of_seeds_but_not_of_levels(tmp_path: Path) -> None:
    write(
        tmp_path,
        RUN,
        attributions=[
            attribution(R, level, "a", UP, method=method, seed=seed)
            for level in (0, 1)
            for method in ("difference_shap", "leverage_shap")
            for seed in (0, 1)
        ],
    )
    for view in ("paired_attributions", "agreement", "level_overlaps"):
        assert rows_of(tmp_path, f"select distinct method from {view}") == [
            {"method": "leverage_shap"}
        ]
    pairs = rows_of(
        tmp_path,
        "select level, seed, other_level, other_seed from attribution_pairs "
        "where method = 'difference_shap' order by level",
    )
    assert [tuple(r.values()) for r in pairs] == [(0, 1, 0, 0), (1, 1, 1, 0)]
    rows = rows_of(tmp_path, "select level, n from seed_agreement where method = 'difference_shap'")
    assert sorted(tuple(r.values()) for r in rows) == [(0, 1), (1, 1)]


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
