"""Views that compare attributions: expected rows by hand; on random rows sets and scipy."""

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
from tests.support.runs.lake_rows import attribution, rows_of, run_row, write, write_raw
from tests.support.runs.one_run import DOWN, RUN, UP, R

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
    assert rows_of(
        tmp_path,
        "select * exclude (model, strategy, task) from paired_attributions where level = 1",
    ) == [
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
def test_overlap_and_spearman_equal_sets_and_scipy(examples: list[Scores]) -> None:
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
        rows = rows_of(
            lake_of(folder, examples),
            "select * exclude (model, strategy, task) from level_overlaps",
        )
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
    assert rows_of(
        tmp_path,
        "select * exclude (model, strategy, task) from attribution_pairs where example_id = 'b'",
    ) == [
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
