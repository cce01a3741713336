"""Post-hoc calibrators: they map a model's confidence and never change its predictions.

    calibrator = calibrators.load("checkpoint/calibrator.json")
    confidence = calibrator.confidence(log_likelihoods)  # [n, options] -> [n]

A calibrator is fitted to predictions whose right option is known, and is stored as JSON.
`temperature` divides the log-likelihoods of the options. The other kinds map the confidence in the
predicted option, its softmax probability, to the share of such predictions that are right.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_expit, logit

from prunelake.analysis.confidence import log_option_probabilities, option_probabilities
from prunelake.errors import InvalidCalibrator, one_line
from prunelake.schema.arrays import FloatArray
from prunelake.schema.calibrators import CALIBRATOR_KINDS, PARAMETER_NAMES

LOG_TEMPERATURE_BOUNDS = (-10.0, 10.0)
"""The range of the search, as in scikit-learn: beyond it, probabilities no longer change."""

CONFIDENCE_CLIP = 1e-6
"""Confidences are moved this far from 0 and 1, which have no logit."""

HISTOGRAM_BIN_COUNT = 10


@dataclass(frozen=True)
class Calibrator:
    """A fitted calibrator: its kind and the parameters that PARAMETER_NAMES lists for it."""

    kind: str
    parameters: Mapping[str, Any]

    @property
    def scales_options(self) -> bool:
        """Whether the calibrator gives each option a probability, not only the predicted option."""
        return self.kind == "temperature"

    def confidence(self, log_likelihoods: ArrayLike) -> FloatArray:
        """The calibrated confidence in the most likely option of each example: [n].

        `log_likelihoods` is [n, options], in nats; -inf where an example has fewer options.
        """
        matrix = np.asarray(log_likelihoods, dtype=float)
        if self.scales_options:
            highest: FloatArray = self.probabilities(matrix).max(axis=1)
            return highest
        return self._map_confidence(option_probabilities(matrix).max(axis=1))

    def probabilities(self, log_likelihoods: ArrayLike) -> FloatArray:
        """The probability of each option: [n, options].

        Raises:
            InvalidCalibrator: the calibrator maps the confidence in the predicted option only.
        """
        if not self.scales_options:
            raise InvalidCalibrator(
                f"{self.kind} calibrates the confidence in the predicted option only: for a "
                "probability of each option, use temperature"
            )
        probabilities: FloatArray = np.exp(
            log_probabilities(log_likelihoods, self.parameters["temperature"])
        )
        return probabilities

    def _map_confidence(self, confidence: FloatArray) -> FloatArray:
        p = self.parameters
        if self.kind == "isotonic":
            return np.asarray(np.interp(confidence, p["confidence"], p["calibrated"]))
        if self.kind == "histogram":
            bins = np.searchsorted(p["edges"], confidence, side="right")
            return np.asarray(p["calibrated"], dtype=float)[bins]
        clipped = np.clip(confidence, CONFIDENCE_CLIP, 1 - CONFIDENCE_CLIP)
        if self.kind == "affine":
            mapped: FloatArray = expit(p["slope"] * logit(clipped) + p["intercept"])
        else:
            mapped = expit(p["a"] * np.log(clipped) - p["b"] * np.log1p(-clipped) + p["c"])
        return mapped

    def to_json(self) -> str:
        """The parameters as JSON, for `from_json`."""
        return json.dumps(self.parameters)


def from_json(kind: str, parameters: str) -> Calibrator:
    """The calibrator with these parameters, which `Calibrator.to_json` returned.

    Raises:
        InvalidCalibrator: an unknown kind, or parameters that do not fit the kind.
    """
    if kind not in PARAMETER_NAMES:
        raise InvalidCalibrator(f"calibrator {kind!r}: choose {', '.join(PARAMETER_NAMES)}")
    names = PARAMETER_NAMES[kind]
    try:
        content = json.loads(parameters)
        values = {name: content[name] for name in names}
        numbers = np.concatenate(
            [np.atleast_1d(np.asarray(value, dtype=float)) for value in values.values()]
        )
        lengths = {name: np.size(value) for name, value in values.items()}
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidCalibrator(
            f"{kind} has the parameters {', '.join(names)}, not {parameters[:80]!r}"
        ) from error
    if kind == "isotonic":
        has_lengths = lengths["confidence"] == lengths["calibrated"]
    elif kind == "histogram":
        has_lengths = lengths["edges"] + 1 == lengths["calibrated"]
    else:
        has_lengths = set(lengths.values()) == {1}
    if not np.isfinite(numbers).all() or not has_lengths:
        raise InvalidCalibrator(f"{kind} cannot be applied with the parameters {parameters[:80]!r}")
    if kind == "temperature" and values["temperature"] <= 0:
        raise InvalidCalibrator(f"the temperature must be above 0, not {values['temperature']}")
    return Calibrator(kind, values)


def load(path: str | Path) -> Calibrator:
    """The calibrator in a `calibrator.json`, which `prunelake export --calibrator` writes.

    Raises:
        InvalidCalibrator: the file cannot be read, or holds no calibrator.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        kind, parameters = content["kind"], json.dumps(content["parameters"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InvalidCalibrator(
            f"{path} is not a calibrator ({one_line(error)}); `prunelake export --calibrator` "
            "writes one"
        ) from error
    return from_json(kind, parameters)


def fit(
    kind: str, log_likelihoods: FloatArray, gold: NDArray[np.integer], correct: FloatArray
) -> Calibrator:
    """The calibrator of this kind that fits the predictions best.

    `log_likelihoods` is [n, options], in nats, -inf where an example has fewer options; `gold` [n]
    is the index of the right option; `correct` [n] is 1 where the most likely option is right, else
    0.

    Raises:
        InvalidCalibrator: an unknown kind; or a temperature for predictions that are all right.
    """
    if kind == "temperature":
        if np.all(correct == 1):
            raise InvalidCalibrator(
                f"all {len(correct)} predictions are right, so a lower temperature always fits "
                "better; add rows with wrong predictions, or use affine or beta"
            )
        return Calibrator(kind, {"temperature": _fit_temperature(log_likelihoods, gold)})
    confidence = option_probabilities(log_likelihoods).max(axis=1)
    clipped = np.clip(confidence, CONFIDENCE_CLIP, 1 - CONFIDENCE_CLIP)
    if kind == "affine":  # Platt (1999), with a slope of at least 0 to keep the order
        slope, intercept = _fit_logistic(logit(clipped)[:, None], correct)
        return Calibrator(kind, {"slope": slope, "intercept": intercept})
    if kind == "beta":  # Kull, Silva Filho and Flach (AISTATS 2017)
        features = np.column_stack([np.log(clipped), -np.log1p(-clipped)])
        a, b, c = _fit_logistic(features, correct)
        return Calibrator(kind, {"a": a, "b": b, "c": c})
    if kind == "isotonic":  # Zadrozny and Elkan (KDD 2002)
        from sklearn.isotonic import IsotonicRegression  # not in a plain installation

        regression = IsotonicRegression(y_min=0, y_max=1).fit(confidence, correct)
        return Calibrator(
            kind,
            {
                "confidence": regression.X_thresholds_.tolist(),
                "calibrated": regression.y_thresholds_.tolist(),
            },
        )
    if kind == "histogram":  # Zadrozny and Elkan (ICML 2001)
        return Calibrator(kind, _fit_histogram(confidence, correct))
    raise InvalidCalibrator(f"calibrator {kind!r}: choose {', '.join(CALIBRATOR_KINDS)}")


def log_probabilities(log_likelihoods: ArrayLike, temperature: float) -> FloatArray:
    """The logarithm of the softmax of log_likelihoods / temperature: [n, options]."""
    matrix = np.asarray(log_likelihoods, dtype=float)
    # Subtracting the maximum first avoids an overflow at a low temperature.
    return log_option_probabilities((matrix - matrix.max(axis=1, keepdims=True)) / temperature)


def _fit_temperature(log_likelihoods: FloatArray, gold: NDArray[np.integer]) -> float:
    """The temperature that minimises the nll of the right option (Guo et al., ICML 2017).

    The nll is convex in the inverse temperature. So it has a single local minimum in the logarithm
    of the temperature, too.
    """
    right = np.arange(len(gold)), gold

    def nll(log_temperature: float) -> float:
        scaled = log_probabilities(log_likelihoods, math.exp(log_temperature))
        return float(-scaled[right].mean())

    best = minimize_scalar(
        nll,
        bounds=LOG_TEMPERATURE_BOUNDS,
        method="bounded",
        options={"xatol": 1e-7, "maxiter": 200},
    )
    return math.exp(best.x)


def _fit_logistic(features: FloatArray, correct: FloatArray) -> list[float]:
    """Logistic regression: the coefficients of `features` [n, k], each >= 0, and the intercept.

    The targets are Platt's, (right + 1) / (right + 2) and 1 / (wrong + 2) instead of 1 and 0. With
    them a best fit exists even where a threshold separates right from wrong predictions.
    """
    right = correct.sum()
    wrong = len(correct) - right
    target = np.where(correct == 1, (right + 1) / (right + 2), 1 / (wrong + 2))
    design = np.column_stack([features, np.ones(len(features))])

    def loss(weights: FloatArray) -> tuple[float, FloatArray]:
        scores = design @ weights
        value = -(target * log_expit(scores) + (1 - target) * log_expit(-scores)).mean()
        return float(value), design.T @ (expit(scores) - target) / len(target)

    best = minimize(
        loss,
        np.append(np.ones(features.shape[1]) / features.shape[1], 0.0),
        jac=True,
        method="L-BFGS-B",
        bounds=[*[(0, None)] * features.shape[1], (None, None)],
        options={"ftol": 1e-15, "gtol": 1e-9, "maxiter": 1000},
    )
    return [float(weight) for weight in best.x]


def _fit_histogram(confidence: FloatArray, correct: FloatArray) -> dict[str, list[float]]:
    """The share of right predictions in ten bins of equal mass; equal confidences share a bin."""
    shares = np.linspace(0, 1, HISTOGRAM_BIN_COUNT + 1)
    edges = np.unique(np.quantile(confidence, shares, method="higher"))[1:-1]
    bins = np.searchsorted(edges, confidence, side="right")
    right = np.bincount(bins, weights=correct, minlength=len(edges) + 1)
    return {"edges": edges.tolist(), "calibrated": (right / np.bincount(bins)).tolist()}
