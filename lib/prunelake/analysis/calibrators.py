"""Post-hoc calibrators: maps of a model's confidence that never change what it predicts.

Each is fitted to predictions whose right option is known, and is stored as JSON. `temperature`
divides the options' log-likelihoods; the others map the confidence in the predicted option, of the
softmax over the options, to how often such a prediction is right.
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
from scipy.special import expit, log_expit, logit, logsumexp, softmax
from sklearn.isotonic import IsotonicRegression

from prunelake.errors import InvalidCalibrator, one_line
from prunelake.schema.arrays import FloatArray

CALIBRATOR_KINDS = ("temperature", "affine", "isotonic", "beta", "histogram")

PARAMETER_NAMES: Mapping[str, tuple[str, ...]] = {
    "temperature": ("temperature",),
    "affine": ("slope", "intercept"),
    "isotonic": ("confidence", "calibrated"),
    "beta": ("a", "b", "c"),
    "histogram": ("edges", "calibrated"),
}
"""By kind: what is fitted. Those of isotonic and histogram are lists."""

LOG_TEMPERATURE_BOUNDS = (-10.0, 10.0)
"""Between these the temperature is sought, as by scikit-learn: beyond, nothing changes any more."""

CONFIDENCE_CLIP = 1e-6
"""A confidence of 0 or 1 has no logit: it counts as so far from it."""

BIN_COUNT = 10


@dataclass(frozen=True)
class Calibrator:
    """One fitted calibrator: its kind, and the parameters that PARAMETERS names."""

    kind: str
    parameters: Mapping[str, Any]

    @property
    def scales_options(self) -> bool:
        """Whether it gives every option a probability, and not only the predicted one."""
        return self.kind == "temperature"

    def confidence(self, log_likelihoods: ArrayLike) -> FloatArray:
        """The calibrated confidence in the most likely option of each example: [n].

        `log_likelihoods` [n, options], in nats; -inf where an example has fewer options.
        """
        given = np.asarray(log_likelihoods, dtype=float)
        if self.scales_options:
            top: FloatArray = self.probabilities(given).max(axis=1)
            return top
        return self._mapped(softmax(given, axis=1).max(axis=1))

    def probabilities(self, log_likelihoods: ArrayLike) -> FloatArray:
        """The probability of each option, [n, options], by a calibrator that scales options.

        Raises:
            InvalidCalibrator: one that knows the confidence in the predicted option only.
        """
        if not self.scales_options:
            raise InvalidCalibrator(
                f"{self.kind} calibrates the confidence in the predicted option only: for a "
                "probability of each option, take temperature"
            )
        found: FloatArray = np.exp(
            log_probabilities(log_likelihoods, self.parameters["temperature"])
        )
        return found

    def _mapped(self, confidence: FloatArray) -> FloatArray:
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
        """The parameters as JSON."""
        return json.dumps(self.parameters)


def from_json(kind: str, parameters: str) -> Calibrator:
    """The calibrator of these parameters, as `Calibrator.to_json` gave them.

    Raises:
        InvalidCalibrator: an unknown kind, or parameters that are not its own.
    """
    if kind not in PARAMETER_NAMES:
        raise InvalidCalibrator(f"calibrator {kind!r}: choose {', '.join(PARAMETER_NAMES)}")
    needed = PARAMETER_NAMES[kind]
    try:
        found = json.loads(parameters)
        values = {name: found[name] for name in needed}
        whole = np.concatenate([np.atleast_1d(np.asarray(v, dtype=float)) for v in values.values()])
        lengths = {name: np.size(value) for name, value in values.items()}
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidCalibrator(
            f"{kind} has the parameters {', '.join(needed)}, and not {parameters[:80]!r}"
        ) from error
    is_list = kind in ("isotonic", "histogram")
    fits = {
        "isotonic": is_list and lengths.get("confidence") == lengths.get("calibrated"),
        "histogram": is_list and lengths.get("edges", 0) + 1 == lengths.get("calibrated"),
    }.get(kind, set(lengths.values()) == {1})
    if not np.isfinite(whole).all() or not fits:
        raise InvalidCalibrator(f"{kind} cannot be applied by the parameters {parameters[:80]!r}")
    if kind == "temperature" and values["temperature"] <= 0:
        raise InvalidCalibrator(f"a temperature is above 0: {values['temperature']}")
    return Calibrator(kind, values)


def load(path: str | Path) -> Calibrator:
    """The calibrator of a `calibrator.json`, as `prunelake export --calibrator` writes it.

    Raises:
        InvalidCalibrator: a file that cannot be read or is none.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        kind, parameters = found["kind"], json.dumps(found["parameters"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InvalidCalibrator(
            f"{path} is no calibrator ({one_line(error)}); `prunelake export --calibrator` "
            "writes one"
        ) from error
    return from_json(kind, parameters)


def fit(
    kind: str, log_likelihoods: FloatArray, gold: NDArray[np.integer], correct: FloatArray
) -> Calibrator:
    """The calibrator of a kind that fits these predictions best.

    `log_likelihoods` [n, options] (-inf where there are fewer), `gold` [n] the right option,
    `correct` [n] of 0 and 1: whether the most likely option is it.
    """
    if kind == "temperature":
        return Calibrator(kind, {"temperature": _fit_temperature(log_likelihoods, gold)})
    confidence = softmax(log_likelihoods, axis=1).max(axis=1)
    clipped = np.clip(confidence, CONFIDENCE_CLIP, 1 - CONFIDENCE_CLIP)
    if kind == "affine":  # Platt (1999), the slope not below 0: the order of confidences is kept
        slope, intercept = _fit_logistic(logit(clipped)[:, None], correct)
        return Calibrator(kind, {"slope": slope, "intercept": intercept})
    if kind == "beta":  # Kull, Silva Filho and Flach (AISTATS 2017)
        features = np.column_stack([np.log(clipped), -np.log1p(-clipped)])
        a, b, c = _fit_logistic(features, correct)
        return Calibrator(kind, {"a": a, "b": b, "c": c})
    if kind == "isotonic":  # Zadrozny and Elkan (KDD 2002)
        steps = IsotonicRegression(y_min=0, y_max=1).fit(confidence, correct)
        found = {"confidence": steps.X_thresholds_, "calibrated": steps.y_thresholds_}
        return Calibrator(kind, {name: values.tolist() for name, values in found.items()})
    if kind == "histogram":  # Zadrozny and Elkan (ICML 2001)
        return Calibrator(kind, _fit_histogram(confidence, correct))
    raise InvalidCalibrator(f"calibrator {kind!r}: choose {', '.join(CALIBRATOR_KINDS)}")


def log_probabilities(log_likelihoods: ArrayLike, temperature: float) -> FloatArray:
    """Log of the softmax of log_likelihoods / temperature, [n, options]."""
    given = np.asarray(log_likelihoods, dtype=float)
    # Shifted by the maximum, nothing overflows at a low temperature.
    scaled = (given - given.max(axis=1, keepdims=True)) / temperature
    found: FloatArray = scaled - logsumexp(scaled, axis=1, keepdims=True)
    return found


def _fit_temperature(log_likelihoods: FloatArray, gold: NDArray[np.integer]) -> float:
    """The temperature of the least nll of the right option (Guo et al., ICML 2017).

    The nll is convex in the inverse temperature, so that it has one minimum in its logarithm, too.
    """
    right = np.arange(len(gold)), gold

    def nll(log_temperature: float) -> float:
        found = log_probabilities(log_likelihoods, math.exp(log_temperature))
        return float(-found[right].mean())

    best = minimize_scalar(
        nll,
        bounds=LOG_TEMPERATURE_BOUNDS,
        method="bounded",
        options={"xatol": 1e-7, "maxiter": 200},
    )
    return math.exp(best.x)


def _fit_logistic(features: FloatArray, correct: FloatArray) -> list[float]:
    """Coefficients of features [n, k], none below 0, and the intercept: logistic regression.

    The targets are Platt's, (right + 1) / (right + 2) and 1 / (wrong + 2) in place of 1 and 0:
    with them there is a best fit also where a threshold parts the right from the wrong ones.
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
    """The share of right predictions in 10 bins of as many examples; equal ones share a bin."""
    shares = np.linspace(0, 1, BIN_COUNT + 1)
    edges = np.unique(np.quantile(confidence, shares, method="higher"))[1:-1]
    bins = np.searchsorted(edges, confidence, side="right")
    right = np.bincount(bins, weights=correct, minlength=len(edges) + 1)
    return {"edges": edges.tolist(), "calibrated": (right / np.bincount(bins)).tolist()}
