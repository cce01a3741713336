"""The views that average pairs of attributions: seeds first, and methods that they leave out."""

from pathlib import Path

import pytest

from tests.support.runs.lake_rows import attribution, rows_of, write
from tests.support.runs.one_run import DOWN, RUN, UP, R


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
