"""The confidence of an example has the same last bit in every order of its options."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from prunelake.lake.sql import views
from tests.support.runs.lake_rows import prediction, run_row, write_raw


def test_confidence_has_no_order_of_options(tmp_path: Path) -> None:
    """1 to 6 options, 20 sets each, every set in 10 orders."""
    generator = np.random.default_rng(1)
    run = run_row("run")
    rows, expected = [], {}
    for count, number in product(range(1, 7), range(20)):
        options = generator.normal(scale=3, size=count)
        name = f"{count}:{number:02}"
        expected[name] = 1 / np.exp(options - options.max()).sum()
        rows += [
            prediction(str(run["run_id"]), 0, f"{name}:{order}", shuffled.tolist(), 0)
            for order in range(10)
            for shuffled in [generator.permutation(options)]
        ]
    write_raw(tmp_path, run, predictions=rows)
    with views.connect(tmp_path) as lake:
        found = views.select(lake, "select example_id[:4] as name, confidence from predictions")
    assert len(found) == 1200
    assert found.unique().height == 120
    assert dict(found.unique().rows()) == pytest.approx(expected, rel=1e-15)
