"""Files with drawn predictions of two models, and their import."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from prunelake.imports.imported_run import LabelledFile
from prunelake.imports.predictions import import_predictions

LETTERS = np.array(["A", "B", "C", "D"])
COUNT = 60


def drawn(seed: int) -> pl.DataFrame:
    """Rows of a file: about 70 % of the predictions are right."""
    rng = np.random.default_rng(seed)
    gold = LETTERS[np.arange(COUNT) % 4]
    wrong = LETTERS[(np.arange(COUNT) + rng.integers(1, 4, COUNT)) % 4]
    return pl.DataFrame(
        {
            "id": [f"q{i}" for i in range(COUNT)],
            "prediction": np.where(rng.random(COUNT) < 0.7, gold, wrong),
            "gold": gold,
            "confidence": rng.uniform(0.25, 1, COUNT),
        }
    )


BASE, CANDIDATE = drawn(0), drawn(1)


def save(folder: Path, name: str, frame: pl.DataFrame, suffix: str = ".csv") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}{suffix}"
    if suffix == ".csv":
        frame.write_csv(path)
    elif suffix == ".jsonl":
        frame.write_ndjson(path)
    else:
        frame.write_parquet(path)
    return path


def import_pair(
    folder: Path, base: pl.DataFrame, candidate: pl.DataFrame, suffix: str = ".csv"
) -> tuple[str, bool]:
    return import_predictions(
        folder / "lake",
        LabelledFile("fp16", save(folder, "base", base, suffix), dtype="float16"),
        [LabelledFile("int4", save(folder, "candidate", candidate, suffix), "m-int4", "", "int4")],
        task="quiz",
        model="m",
    )


Change = Callable[[pl.DataFrame], pl.DataFrame]


def at(row: int, **values: Any) -> Change:
    return lambda frame: frame.with_columns(
        pl.when(pl.int_range(pl.len()) == row).then(pl.lit(value)).otherwise(name).alias(name)
        for name, value in values.items()
    )
