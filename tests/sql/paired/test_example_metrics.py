"""The metrics of each example: expected rows by hand, and brute force."""

import math
import re
import tempfile
from itertools import permutations, product
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from prunelake.lake.sql.view_files import sql_folder
from prunelake.schema.metrics import FLIP_RATES, METRIC_DEFINITIONS
from tests.support.endurance import repeats
from tests.support.runs.lake_rows import (
    attribution,
    deletion,
    prediction,
    rows_of,
    run_row,
    write_raw,
)
from tests.support.runs.one_run import DOWN, HALF, LN2, RUN, SECOND, UP, R


def values(lake: Path, where: str = "true") -> dict[str, float]:
    """The values of one example at one level, by metric."""
    rows = rows_of(lake, f"select metric, value from example_metrics where {where}")
    result = {row["metric"]: row["value"] for row in rows}
    assert len(result) == len(rows)
    return result


def curves(level: int, example_id: str, drops: dict[str, float], **columns: Any) -> list[Any]:
    """Deletion curves with one point each, one for each kind."""
    return [
        deletion(R, level, example_id, 0.1, drop, kind=kind, **columns)
        for kind, drop in drops.items()
    ]


def test_every_metric_of_an_example_is_defined_in_the_schema() -> None:
    sql = (sql_folder() / "paired/example_metrics.sql").read_text(encoding="utf-8")
    lists = re.findall(r"unnest\(\s*\[([^]]*)\]\s*\)\s*as metric", sql)
    names = {name for text in lists for name in re.findall(r"'([a-z]\w*)'", text)}
    assert names, "unnest([...]) as metric"
    undefined = names - METRIC_DEFINITIONS.keys()
    assert not undefined, (
        f"{undefined}: add to METRIC_DEFINITIONS in lib/prunelake/schema/metrics.py"
    )
    of_predictions = {n for n, known in METRIC_DEFINITIONS.items() if known.covers_all_predictions}
    assert of_predictions <= names, f"{of_predictions - names}: no example has this metric"
    at_margin = {name for name, known in METRIC_DEFINITIONS.items() if known.is_tested_at_margin}
    assert at_margin <= {*FLIP_RATES}, "a test at the margin needs exact intervals: FLIP_RATES"


def test_metrics_of_a_prediction_equal_values_worked_by_hand(tmp_path: Path) -> None:
    write_raw(
        tmp_path,
        RUN,
        predictions=[
            *(prediction(R, 0, e, HALF, gold) for e, gold in [("a", 0), ("b", 1), ("c", 2)]),
            *(prediction(R, 1, e, SECOND, gold) for e, gold in [("a", 0), ("b", 1), ("c", 2)]),
        ],
    )
    wrong = {
        "accuracy": 0,
        "accuracy_norm": 0,
        "brier": pytest.approx(1 / 4 + 9 / 16 + 1 / 16),
        "nll": pytest.approx(2 * LN2),
        "mean_confidence": pytest.approx(0.5),
        "flip_rate": 0,
        "harmful_flip_rate": 0,
        "beneficial_flip_rate": 0,
        "kl_from_unpruned": 0,
    }
    right = wrong | {
        "accuracy": 1,
        "accuracy_norm": 1,
        "brier": pytest.approx(1 / 4 + 1 / 16 + 1 / 16),
        "nll": pytest.approx(LN2),
    }
    flipped = {"flip_rate": 1, "kl_from_unpruned": pytest.approx(LN2 / 4)}
    for level, example_id, expected in (
        (0, "a", right),
        (0, "b", wrong),
        (1, "a", wrong | flipped | {"harmful_flip_rate": 1}),
        (1, "b", right | flipped | {"beneficial_flip_rate": 1}),
        (1, "c", wrong | flipped),
    ):
        actual = values(tmp_path, f"level = {level} and example_id = '{example_id}'")
        assert {name: actual[name] for name in expected} == expected
    names = rows_of(tmp_path, "select distinct method, operator, variant from example_metrics")
    assert names == [dict.fromkeys(("method", "operator", "variant"))]


def test_a_value_that_cannot_be_computed_has_no_row(tmp_path: Path) -> None:
    write_raw(
        tmp_path,
        RUN,
        predictions=[
            # Level 0 of `a` and level 1 of `b` cannot be scored.
            prediction(R, 0, "a", [math.nan, 0.0, 0.0]),
            prediction(R, 1, "a", HALF) | {"prediction_norm": None, "is_correct_norm": None},
            prediction(R, 0, "b", HALF),
            prediction(R, 1, "b", [-math.inf, 0.0, 0.0]),
        ],
        attributions=[attribution(R, 0, "b", [0.5, 0.5]), attribution(R, 1, "b", [1, 2])],
        deletions=[
            *curves(0, "b", {"comprehensiveness": math.nan}),
            *curves(1, "b", {"comprehensiveness": 0.5}),
            *curves(1, "b", {"comprehensiveness": math.nan}, method="random"),
        ],
    )
    assert values(tmp_path, "level = 0 and example_id = 'a'") == {}
    scored = {"accuracy", "brier", "nll", "mean_confidence"}
    beside_unscored = values(tmp_path, "level = 1 and example_id = 'a'").keys()
    assert scored <= beside_unscored
    compared = {"accuracy_norm", "flip_rate", "harmful_flip_rate", "kl_from_unpruned"}
    assert compared.isdisjoint(beside_unscored)
    unpruned = values(tmp_path, "level = 0 and example_id = 'b' and method is null")
    assert {"accuracy_norm", "flip_rate", "kl_from_unpruned", *scored} < unpruned.keys()
    # Equal scores have an overlap but no rank correlation; there is one seed; the curve is NaN.
    overlaps = {"overlap_5", "overlap_10", "overlap_20"}
    assert values(tmp_path, "level = 0 and method is not null").keys() == overlaps
    # The random ranking has no value, so that there is no advantage over it.
    assert values(
        tmp_path, "level = 1 and example_id = 'b' and coalesce(variant, 'eraser') = 'eraser'"
    ).keys() == {"comprehensiveness", *overlaps}


def test_the_advantage_is_over_the_random_ranking_of_the_same_example(tmp_path: Path) -> None:
    write_raw(
        tmp_path,
        RUN,
        deletions=[
            *curves(0, "a", {"comprehensiveness": 0.5, "sufficiency": 0.125}),
            *curves(0, "a", {"comprehensiveness": 0.25, "sufficiency": 0.125}, seed=1),
            *curves(0, "a", {"comprehensiveness": 0.125, "sufficiency": 0.5}, method="random"),
            *curves(0, "a", {"comprehensiveness": 0.375}, method="random", seed=1),
            *curves(0, "b", {"comprehensiveness": 0.5}),
            # Another level and another operator.
            *curves(1, "b", {"comprehensiveness": 0.75}, method="random"),
            *curves(0, "b", {"comprehensiveness": 0.75}, method="random", operator="delete_text"),
        ],
    )
    # The random ranking of another run does not count either.
    other = run_row("other")
    o = str(other["run_id"])
    drops = {"comprehensiveness": 0.75}
    write_raw(
        tmp_path,
        other,
        deletions=[row | {"run_id": o} for row in curves(0, "b", drops, method="random")],
    )
    rows = rows_of(
        tmp_path,
        "select level, example_id, method, operator, metric, value from example_metrics "
        f"where variant = 'eraser' and run_id = '{R}' order by all",
    )
    assert [tuple(row.values()) for row in rows] == [
        (0, "a", "lime", "replace", "comprehensiveness", 0.375),
        (0, "a", "lime", "replace", "comprehensiveness_advantage", 0.125),
        (0, "a", "lime", "replace", "sufficiency", 0.125),
        (0, "a", "lime", "replace", "sufficiency_advantage", 0.375),
        (0, "a", "random", "replace", "comprehensiveness", 0.25),
        (0, "a", "random", "replace", "sufficiency", 0.5),
        (0, "b", "lime", "replace", "comprehensiveness", 0.5),
        (0, "b", "random", "delete_text", "comprehensiveness", 0.75),
        (1, "b", "random", "replace", "comprehensiveness", 0.75),
    ]
    (half,) = rows_of(
        tmp_path,
        "select value from example_metrics where variant = 'paper' and example_id = 'b' "
        "and method = 'lime'",
    )
    assert half == {"value": 0.25}


def test_an_attribution_with_a_problem_keeps_its_deletion_curve(tmp_path: Path) -> None:
    write_raw(
        tmp_path,
        RUN,
        attributions=[attribution(R, 0, "a", [1, math.nan])],
        deletions=curves(0, "a", {"comprehensiveness": 0.5}),
    )
    assert values(tmp_path, "variant is null or variant = 'eraser'") == {"comprehensiveness": 0.5}


def test_agreement_within_and_across_seeds_equals_values_worked_by_hand(tmp_path: Path) -> None:
    write_raw(
        tmp_path,
        RUN,
        attributions=[
            attribution(R, 0, "a", UP, seed=0),
            attribution(R, 0, "a", DOWN, seed=1),
            attribution(R, 1, "a", DOWN, seed=0),
            attribution(R, 1, "a", DOWN, seed=1),
        ],
    )
    overlaps = dict.fromkeys(
        ("overlap_5", "overlap_10", "overlap_20", "cross_overlap_10", "seed_overlap_10"), 1
    )
    # At level 0 the seeds give opposite scores: this is the noise of the method.
    assert values(tmp_path, "level = 0") == overlaps | {
        "attribution_spearman": 1,
        "cross_spearman": -1,
        "seed_spearman": -1,
    }
    assert values(tmp_path, "level = 1") == overlaps | {
        "attribution_spearman": 0,
        "cross_spearman": 0,
        "seed_spearman": 1,
    }


SEEDS, LEVELS, TOKENS = range(3), range(3), 12
# Few distinct scores, so that ties are common, but not all scores of an attribution are equal.
scores = st.lists(st.integers(-2, 2), min_size=TOKENS, max_size=TOKENS).filter(
    lambda values: len(set(values)) > 1
)


@settings(max_examples=repeats(8, 15), deadline=None)
@given(st.fixed_dictionaries(dict.fromkeys(product(LEVELS, SEEDS), scores)))
def test_agreement_across_seeds_equals_all_ordered_pairs(
    given_scores: dict[tuple[int, int], list[int]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_raw(
            Path(folder),
            RUN,
            attributions=[
                attribution(R, level, "a", values, seed=seed)
                for (level, seed), values in given_scores.items()
            ],
        )
        rows = rows_of(Path(folder), "select level, metric, value from example_metrics")
    result = {(row["level"], row["metric"]): row["value"] for row in rows}
    assert len(result) == len(rows)

    def overlap(one: tuple[int, int], other: tuple[int, int]) -> float:
        tops = [
            {i for _, i in sorted((-value, i) for i, value in enumerate(given_scores[place]))[:10]}
            for place in (one, other)
        ]
        return len(tops[0] & tops[1]) / 10

    def spearman(one: tuple[int, int], other: tuple[int, int]) -> float:
        return float(spearmanr(given_scores[one], given_scores[other]).statistic)

    different = list(permutations(SEEDS, 2))
    for level in LEVELS:
        for name, measure in (("overlap_10", overlap), ("spearman", spearman)):
            same = "attribution_spearman" if name == "spearman" else name
            expected = {
                same: fmean(measure((level, seed), (0, seed)) for seed in SEEDS),
                f"cross_{name}": fmean(measure((level, one), (0, two)) for one, two in different),
                f"seed_{name}": fmean(
                    measure((level, one), (level, two)) for one, two in different
                ),
            }
            for metric, value in expected.items():
                assert result[level, metric] == pytest.approx(value, abs=1e-12), (level, metric)
