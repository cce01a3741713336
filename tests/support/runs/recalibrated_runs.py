"""A run with a calibrated and an overconfident level, in arrays and in rows of the lake."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from prunelake.analysis.example_scores import ExampleScores, OptionScores, build_example_scores
from tests.support.runs.lake_rows import prediction, rows_of, run_row

Array = NDArray[np.float64]
Rows = list[dict[str, Any]]

RUN = run_row("run", levels=[0, 1], model="m", strategy="random:1", task="t")
R = str(RUN["run_id"])
OPTIONS = 3
SHARPNESS = {0: 1.0, 1: 3.0}
CONFIDENCE = {"ece", "ece_debiased", "smooth_ece", "top_label_brier"}
RANKING = {"auroc", "aurc"}
SCALED = {"nll", "brier"}


def drawn(n: int = 200, seed: int = 0) -> tuple[Array, NDArray[np.int64]]:
    """Log-likelihoods [levels, n, options] of a calibrated and of an overconfident level; gold."""
    generator = np.random.default_rng(seed)
    latent = generator.normal(size=(n, OPTIONS))
    gold = (latent + generator.gumbel(size=latent.shape)).argmax(axis=1)
    latent = np.stack([latent, latent + 0.2 * generator.normal(size=latent.shape)])
    return latent * np.array(list(SHARPNESS.values()))[:, None, None], gold


def scores_and_options(
    log_likelihoods: Array, gold: NDArray[np.int64], prompts: list[str] | None = None
) -> tuple[ExampleScores, OptionScores]:
    shifted = log_likelihoods - log_likelihoods.max(axis=2, keepdims=True)
    names = tuple(prompts or (f"test:{i}" for i in range(len(gold))))
    confidence = softmax(shifted, axis=2).max(axis=2)
    correct = (shifted.argmax(axis=2) == gold).astype(float)
    values = np.zeros((*confidence.shape, 0))
    scores = build_example_scores((0, 1), (), values, confidence, correct, names)
    return scores, OptionScores(shifted, np.tile(gold, (2, 1)), names)


def predictions(log_likelihoods: Array, gold: NDArray[np.int64]) -> Rows:
    return [
        prediction(R, level, f"test:{i:03}", row.tolist(), int(gold[i]))
        for level, rows in enumerate(log_likelihoods)
        for i, row in enumerate(rows)
    ]


def rows(lake: Path, where: str) -> Rows:
    return rows_of(lake, f"from recalibration where {where}")


def few_predictions(n: int) -> Rows:
    log_likelihoods, gold = drawn(n)
    return predictions(log_likelihoods, gold)
