"""The order of an example's options changes no metric."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from prunelake.analysis.analyse import analysis_of_run
from prunelake.schema.table import METRIC_KEY
from tests.support.runs.lake_rows import prediction, run_row, write_raw

COUNT, OPTION_COUNT = 120, 5
ESTIMATES = ("value", "ci_low", "ci_high", "delta", "delta_low", "delta_high", "p_value")
GAINS = ("value", "before", "gain", "gain_low", "gain_high")


def analysed(
    lake: Path, log_likelihoods: NDArray[np.float64], gold: NDArray[np.int64]
) -> dict[str, pl.DataFrame]:
    """The analysis of a run; `log_likelihoods` is [levels, examples, options]."""
    run = run_row("run")
    run_id = str(run["run_id"])
    rows = [
        prediction(run_id, level, f"test:{i:03}", options.tolist(), int(gold[i]))
        for level, of_level in enumerate(log_likelihoods)
        for i, options in enumerate(of_level)
    ]
    write_raw(lake, run, predictions=rows)
    return analysis_of_run(lake, run_id, 20)[1]


def test_permuted_options_give_equal_metrics(tmp_path: Path) -> None:
    generator = np.random.default_rng(5)
    # Ten different examples: most confidences tie, between right and wrong predictions as well.
    distinct = generator.normal(size=(2, 10, OPTION_COUNT)).astype(np.float32).astype(np.float64)
    kinds = generator.integers(10, size=COUNT)
    log_likelihoods = distinct[:, kinds]
    gold = generator.integers(OPTION_COUNT, size=COUNT)
    gold = np.where(generator.random(COUNT) < 0.5, log_likelihoods[0].argmax(axis=1), gold)
    before = analysed(tmp_path / "before", log_likelihoods, gold)

    order = generator.permuted(np.tile(np.arange(OPTION_COUNT), (COUNT, 1)), axis=1)
    permuted = np.take_along_axis(log_likelihoods, order[None], axis=2)
    after = analysed(tmp_path / "after", permuted, (order == gold[:, None]).argmax(axis=1))

    for table, keys, columns in (
        ("metrics", ("level", *METRIC_KEY), ESTIMATES),
        ("recalibrated", ("level", "calibrator", "metric"), GAINS),
    ):
        compared = before[table].join(after[table], on=keys, nulls_equal=True, validate="1:1")
        assert compared.height == before[table].height == after[table].height > 0
        for column in columns:
            expected = compared[column].to_list()
            assert compared[f"{column}_right"].to_list() == pytest.approx(expected, abs=1e-12)
