"""The metrics of each example of a random run: their means equal the marts and the analysis."""

import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from prunelake.analysis.analyse import analyse
from tests.support.runs.lake_rows import (
    attribution,
    deletion,
    prediction,
    rows_of,
    write_raw,
)
from tests.support.runs.one_run import RUN, R


def random_run(folder: Path) -> None:
    """Two levels, a dozen examples of which some cannot be scored, two seeds, three methods."""
    rng = np.random.default_rng(0)
    names = [f"test:{i:02}" for i in range(12)]
    methods = ("lime", "kernel_shap", "random")
    predictions = [
        prediction(R, level, name, rng.normal(size=3).tolist(), gold=i % 3)
        for level in (0, 1)
        for i, name in enumerate(names)
    ]
    predictions[3]["option_log_likelihoods"] = [math.nan] * 3
    predictions[16]["option_log_likelihoods"] = [math.nan] * 3
    cells = list(product((0, 1), names[:6], methods, (0, 1)))
    write_raw(
        folder,
        RUN,
        predictions=predictions,
        attributions=[
            attribution(
                R, level, name, rng.integers(-3, 4, 15 + names.index(name)).tolist(), method, seed
            )
            for level, name, method, seed in cells
        ],
        deletions=[
            deletion(
                R,
                level,
                name,
                fraction,
                # One curve is NaN.
                math.nan if (level, name, method, seed) == cells[0] else float(rng.normal()),
                method=method,
                seed=seed,
                operator=operator,
                kind=kind,
            )
            for level, name, method, seed in cells
            for operator in ("delete_text", "replace")
            for kind in ("comprehensiveness", "sufficiency")
            for fraction in (0.1, 0.2)
        ],
    )


MARTS = """
    select level, null as method, null as operator, null as variant, metric, mean, n
    from accuracy
    cross join (
        values ('accuracy', accuracy), ('accuracy_norm', accuracy_norm)
    ) as v (metric, mean)
    union all
    select level, null, null, null, metric, mean, n
    from calibration
    cross join (
        values ('brier', brier), ('nll', nll), ('mean_confidence', mean_confidence)
    ) as v (metric, mean)
    union all
    select level, null, null, null, metric, mean, n
    from flips
    cross join (
        values ('flip_rate', flip_rate), ('harmful_flip_rate', harmful_rate),
        ('beneficial_flip_rate', beneficial_rate), ('kl_from_unpruned', mean_kl)
    ) as v (metric, mean)
    union all
    select level, method, null, null, metric, mean, n
    from agreement
    cross join (
        values ('overlap_5', overlap_5), ('overlap_10', overlap_10), ('overlap_20', overlap_20),
        ('attribution_spearman', spearman)
    ) as v (metric, mean)
    union all
    select level, method, null, null, metric, mean, n
    from seed_agreement
    cross join (
        values ('seed_overlap_10', overlap_10), ('seed_spearman', spearman)
    ) as v (metric, mean)
    union all
    select level, method, operator, variant, metric, mean, n
    from faithfulness
    cross join (
        values (kind, value), (kind || '_advantage', advantage)
    ) as v (metric, mean)
    where mean is not null
"""


def test_the_means_over_examples_equal_the_values_of_the_marts(tmp_path: Path) -> None:
    random_run(tmp_path)
    analyse(tmp_path, R)
    key = "level, method, operator, variant, metric"
    means, expected = (
        {
            tuple(row[name] for name in key.split(", ")): (row["value"], row["n"])
            for row in rows_of(tmp_path, sql)
        }
        for sql in (
            f"select {key}, avg(value) as value, count(*) as n from example_metrics "
            f"where metric not like 'cross_%' group by all",
            f"select {key}, mean as value, n from ({MARTS})",
        )
    )
    in_marts = {metric for *_, metric in expected}
    means = {metric_key: mean for metric_key, mean in means.items() if metric_key[-1] in in_marts}
    assert means.keys() == expected.keys()
    for metric_key, (value, n) in means.items():
        assert value == pytest.approx(expected[metric_key][0], abs=1e-12), metric_key
        assert n == expected[metric_key][1], metric_key


def test_the_grain_is_unique(tmp_path: Path) -> None:
    random_run(tmp_path)
    duplicates = rows_of(
        tmp_path,
        "select columns(* exclude (value)), count(*) as count from example_metrics "
        "group by all having count(*) > 1",
    )
    assert duplicates == []
    assert rows_of(tmp_path, "select metric from example_metrics where not isfinite(value)") == []
