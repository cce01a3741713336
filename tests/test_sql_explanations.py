"""Views over attributions and deletions: given rows and expected rows, and scipy on random ones."""

import math
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from tests.lake_rows import attribution, deletion, rows_of, run_row, write

RUN = run_row("run")
R = str(RUN["run_id"])
# Few distinct scores make ties, also of the two zeros.
scores = st.sampled_from([-1.0, -0.5, -0.0, 0.0, 0.25, 1.0]) | st.floats(-1, 1, width=32)


def test_overlap_and_spearman_by_hand(tmp_path: Path) -> None:
    write(
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


def test_of_equal_scores_the_earlier_token_is_on_top(tmp_path: Path) -> None:
    write(
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
    # Where all scores of one side are equal there is no rank correlation.
    assert [r["spearman"] for r in rows] == [None] * 3


def test_pairs_share_method_seed_example_and_run(tmp_path: Path) -> None:
    up, down = [1.0, 2.0, 3.0], [3.0, 2.0, 1.0]
    unpruned = [("a", "lime", 0, up), ("a", "lime", 1, down), ("a", "kernel_shap", 0, down)]
    write(
        tmp_path,
        RUN,
        attributions=[
            *(attribution(R, 0, e, s, m, seed) for e, m, seed, s in unpruned),
            *(attribution(R, 1, e, up, m, seed) for e, m, seed, _ in unpruned),
            attribution(R, 1, "b", up),
        ],
    )
    other = run_row("other")
    write(tmp_path, other, attributions=[attribution(str(other["run_id"]), 0, "a", down)])
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


def test_agreement_averages_seeds_first(tmp_path: Path) -> None:
    up, down = [1.0, 2.0, 3.0], [3.0, 2.0, 1.0]
    write(
        tmp_path,
        RUN,
        attributions=[
            *(attribution(R, 0, "a", up, seed=seed) for seed in range(3)),
            *(attribution(R, 1, "a", up, seed=seed) for seed in range(3)),
            attribution(R, 0, "b", up),
            attribution(R, 1, "b", down),
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


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_attributions_that_are_no_numbers_are_left_out(tmp_path: Path, bad: float) -> None:
    write(
        tmp_path,
        RUN,
        attributions=[attribution(R, 0, "a", [1, 2]), attribution(R, 1, "a", [1, bad])],
    )
    assert rows_of(tmp_path, "select level from paired_attributions") == [{"level": 0}]
    rows = rows_of(tmp_path, "select overlap_5, spearman, n from agreement where level = 1")
    assert rows == [{"overlap_5": None, "spearman": None, "n": 0}]


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.integers(1, 30).flatmap(
            lambda n: st.tuples(*[st.lists(scores, min_size=n, max_size=n)] * 2)
        ),
        min_size=1,
        max_size=8,
    )
)
def test_agreement_of_random_attributions_equals_scipys(
    pairs: list[tuple[list[float], list[float]]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write(
            Path(folder),
            RUN,
            attributions=[
                attribution(R, level, f"test:{i:02}", side)
                for i, pair in enumerate(pairs)
                for level, side in enumerate(pair)
            ],
        )
        rows = rows_of(Path(folder), "from paired_attributions where level = 1 order by example_id")
    assert len(rows) == len(pairs)
    for row, (unpruned, pruned) in zip(rows, pairs, strict=True):
        for k in (5, 10, 20):
            shared = top(unpruned, k) & top(pruned, k)
            assert row[f"overlap_{k}"] == pytest.approx(len(shared) / min(k, len(pruned)))
        if len(set(unpruned)) == 1 or len(set(pruned)) == 1:
            assert row["spearman"] is None
        else:
            assert row["spearman"] == pytest.approx(spearmanr(unpruned, pruned).statistic)


def top(values: list[float], k: int) -> set[int]:
    return set(sorted(range(len(values)), key=lambda i: (-values[i], i))[:k])


def curve(drops: list[float], **columns: Any) -> list[dict[str, Any]]:
    """One deletion curve of example `a` at level 0 unless said otherwise."""
    place: dict[str, Any] = {"level": 0, "example_id": "a"} | columns
    return [deletion(R, fraction=(i + 1) / 10, drop=drop, **place) for i, drop in enumerate(drops)]


def test_aopc_by_hand(tmp_path: Path) -> None:
    write(tmp_path, RUN, deletions=curve([0.125, 0.25, 0.375]))
    key = {
        "run_id": R,
        "level": 0,
        "example_id": "a",
        "method": "lime",
        "seed": 0,
        "operator": "replace",
        "kind": "comprehensiveness",
    }
    assert rows_of(tmp_path, "from aopc order by variant") == [
        key | {"variant": "eraser", "value": 0.25},
        key | {"variant": "paper", "value": 0.1875},
    ]


def test_a_curve_with_a_point_that_is_no_number_has_no_area(tmp_path: Path) -> None:
    write(
        tmp_path,
        RUN,
        deletions=[*curve([0.5, math.nan]), *curve([0.25, 0.25], example_id="b")],
    )
    rows = rows_of(tmp_path, "select value from aopc where variant = 'eraser' order by example_id")
    assert [r["value"] for r in rows] == [None, 0.25]
    rows = rows_of(tmp_path, "select value, n from faithfulness where variant = 'eraser'")
    assert rows == [{"value": 0.25, "n": 1}]


def test_faithfulness_averages_seeds_first_and_compares_with_random(tmp_path: Path) -> None:
    write(
        tmp_path,
        RUN,
        deletions=[
            *curve([0.25], seed=0),
            *curve([0.5], seed=1),
            *curve([0.125], example_id="b"),
            *curve([0.0], method="random"),
            *curve([0.125], method="random", example_id="b"),
            *curve([0.125], kind="sufficiency"),
            *curve([0.5], kind="sufficiency", method="random"),
            *curve([0.75], operator="delete_text"),
        ],
    )
    rows = rows_of(
        tmp_path,
        "select operator, kind, method, value, random_value, advantage, n from faithfulness "
        "where variant = 'eraser' order by operator, kind, method",
    )
    assert [tuple(r.values()) for r in rows] == [
        ("delete_text", "comprehensiveness", "lime", 0.75, None, None, 1),
        ("replace", "comprehensiveness", "lime", 0.25, 0.0625, 0.1875, 2),
        ("replace", "comprehensiveness", "random", 0.0625, 0.0625, None, 2),
        ("replace", "sufficiency", "lime", 0.125, 0.5, 0.375, 1),
        ("replace", "sufficiency", "random", 0.5, 0.5, None, 1),
    ]


def test_advantage_compares_within_level_and_run(tmp_path: Path) -> None:
    write(
        tmp_path,
        RUN,
        deletions=[
            *curve([0.25]),
            *curve([0.25], level=1),
            *curve([0.125], method="random", level=1),
        ],
    )
    rows = rows_of(
        tmp_path,
        "select level, advantage from faithfulness "
        "where variant = 'eraser' and method = 'lime' order by level",
    )
    assert [r["advantage"] for r in rows] == [None, 0.125]


def test_the_random_ranking_is_no_method_whose_agreement_is_shown(tmp_path: Path) -> None:
    run = run_row()
    write(
        tmp_path,
        run,
        attributions=[
            attribution(run["run_id"], level, "test:0", [0.5, 0.25, 0.0], method=method)
            for level in (0, 1)
            for method in ("lime", "random")
        ],
    )
    assert rows_of(tmp_path, "select distinct method from agreement") == [{"method": "lime"}]
