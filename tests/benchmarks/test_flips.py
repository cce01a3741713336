"""The case study of quantised models equals plain numpy in all 18 comparisons."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks.flips import FORMATS, MODELS, TASKS, import_flips, tables
from tests.support.runs.lake_rows import rows_of

DATA = Path(os.environ.get("PRUNELAKE_DATA", "")) / "flips"


@pytest.mark.skipif(not (DATA / "items.json").is_file(), reason="PRUNELAKE_DATA has no flips")
def test_all_comparisons_equal_numpy(tmp_path: Path) -> None:
    run_ids = iter(import_flips(tmp_path, DATA))
    names = ("run_id", "level", "metric", "value")
    select = f"select {', '.join(names)} from metrics where variant is null"
    measured = {tuple(row.values())[:3]: row["value"] for row in rows_of(tmp_path, select)}
    marts = {
        (row["run_id"], row["level"]): row
        for row in rows_of(
            tmp_path,
            """
            select flips.*, accuracy.accuracy, calibration.ece
            from flips
            inner join accuracy using (run_id, level)
            inner join calibration using (run_id, level)
            """,
        )
    }
    items = json.loads((DATA / "items.json").read_text("utf-8"))
    comparisons, flips = 0, 0
    for stem in MODELS:
        for benchmark in TASKS:
            run_id = next(run_ids)
            gold = np.array([item["answer"] for item in items[benchmark]])
            base = np.array([])
            for level, label in enumerate(FORMATS):
                found = json.loads((DATA / f"{stem}__{label}__{benchmark}.json").read_text("utf-8"))
                predicted, confidence = np.array(found["preds"]), np.array(found["confs"])
                right = predicted == gold
                base = predicted if level == 0 else base
                bins = np.minimum(np.floor(confidence * 10), 9)
                gaps = [abs(np.sum((confidence - right)[bins == b])) for b in range(10)]
                changed, was_right = predicted != base, base == gold
                expected = {
                    "accuracy": right.mean(),
                    "flip_rate": changed.mean(),
                    "harmful": (was_right & ~right).mean(),
                    "beneficial": (~was_right & right).mean(),
                    "neutral": (changed & ~was_right & ~right).mean(),
                    "ece": np.sum(gaps) / len(gold),
                }
                mart = marts[run_id, level]
                for name in ("harmful", "beneficial", "neutral"):
                    assert mart[f"{name}_rate"] == pytest.approx(expected[name], abs=1e-9)
                for name in ("accuracy", "flip_rate", "ece"):
                    assert mart[name] == pytest.approx(expected[name], abs=1e-9)
                    assert measured[run_id, level, name] == pytest.approx(expected[name], abs=1e-9)
                for name in ("harmful", "beneficial"):
                    value = measured[run_id, level, f"{name}_flip_rate"]
                    assert value == pytest.approx(expected[name], abs=1e-9)
                comparisons += level > 0
                flips += int(changed.sum())
    assert comparisons == 18
    assert f"{flips:,} flips" in tables(tmp_path)
