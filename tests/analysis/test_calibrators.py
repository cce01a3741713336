"""Calibrators: the oracles are scikit-learn and fine grids; JSON keeps the fitted parameters."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import logit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.isotonic import IsotonicRegression

from prunelake.analysis import calibrators
from prunelake.analysis.calibrators import Calibrator, fit, from_json
from prunelake.errors import InvalidCalibrator
from prunelake.schema.calibrators import CALIBRATOR_KINDS, PARAMETER_NAMES

Array = NDArray[np.float64]
Drawn = tuple[Array, NDArray[np.int64], Array]


def drawn(n: int = 2000, sharpness: float = 3.0, options: int = 4, seed: int = 0) -> Drawn:
    """Log-likelihoods, gold and correctness; overconfident if `sharpness` is above 1."""
    generator = np.random.default_rng(seed)
    latent = generator.normal(size=(n, options))
    gold = (latent + generator.gumbel(size=latent.shape)).argmax(axis=1)
    return sharpness * latent, gold, (latent.argmax(axis=1) == gold).astype(float)


def confidence_of(log_likelihoods: Array) -> Array:
    fitted: Array = softmax(log_likelihoods, axis=1).max(axis=1)
    return fitted


class Fixed(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # ships no types
    """A classifier whose decision function is its input."""

    def fit(self, x: Array, y: Array) -> "Fixed":  # noqa: ARG002
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, x: Array) -> Array:
        return x[:, 0] if x.shape[1] == 1 else x

    def predict(self, x: Array) -> Array:
        pytest.fail(f"scikit-learn calibrates scores, and predicts nothing: {x}")


def scikit_learn_calibrator(x: Array, y: NDArray[Any], method: str) -> CalibratedClassifierCV:
    model = FrozenEstimator(Fixed().fit(x, y))
    return CalibratedClassifierCV(model, method=method, ensemble=False).fit(x, y)


def test_the_temperature_equals_scikit_learn() -> None:
    log_likelihoods, gold, correct = drawn()
    fitted = fit("temperature", log_likelihoods, gold, correct)
    expected = scikit_learn_calibrator(log_likelihoods, gold, "temperature")
    assert fitted.probabilities(log_likelihoods) == pytest.approx(
        expected.predict_proba(log_likelihoods), abs=1e-5
    )


@pytest.mark.parametrize("truth", [0.5, 1.0, 3.0, 40.0])
def test_the_fit_recovers_a_known_temperature(truth: float) -> None:
    log_likelihoods, gold, correct = drawn(20_000, truth)
    (fitted,) = fit("temperature", log_likelihoods, gold, correct).parameters.values()
    assert fitted == pytest.approx(truth, rel=0.05)


def test_no_temperature_on_a_fine_grid_has_a_lower_nll() -> None:
    log_likelihoods, gold, correct = drawn(300)
    fewer = np.arange(300) % 3 == 0  # these rows lose their last option if it is not needed
    fewer &= (gold != 3) & (log_likelihoods.argmax(axis=1) != 3)
    assert fewer.sum() > 30
    log_likelihoods[fewer, 3] = -np.inf

    def nll(temperature: float) -> float:
        p = softmax(log_likelihoods / temperature, axis=1)
        return float(-np.log(p[np.arange(300), gold]).mean())

    (fitted,) = fit("temperature", log_likelihoods, gold, correct).parameters.values()
    assert nll(fitted) <= min(nll(t) for t in np.geomspace(0.05, 50, 20_001)) + 1e-12


def test_affine_equals_the_sigmoid_of_scikit_learn() -> None:
    log_likelihoods, gold, correct = drawn()
    confidence = confidence_of(log_likelihoods)
    assert confidence.max() < 1 - calibrators.CONFIDENCE_CLIP
    x = logit(confidence)[:, None]
    expected = scikit_learn_calibrator(x, correct, "sigmoid").predict_proba(x)[:, 1]
    fitted = fit("affine", log_likelihoods, gold, correct)
    assert fitted.confidence(log_likelihoods) == pytest.approx(expected, abs=1e-5)


def test_beta_equals_the_logistic_regression_on_both_logarithms() -> None:
    import statsmodels.api as sm

    log_likelihoods, gold, correct = drawn()
    confidence = confidence_of(log_likelihoods)
    right = correct.sum()
    target = np.where(correct == 1, (right + 1) / (right + 2), 1 / (len(correct) - right + 2))
    features = np.column_stack([np.log(confidence), -np.log1p(-confidence), np.ones(len(correct))])
    expected = sm.GLM(target, features, family=sm.families.Binomial()).fit().params
    assert min(expected[:2]) > 0
    fitted = fit("beta", log_likelihoods, gold, correct)
    assert list(fitted.parameters.values()) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("kind", ["affine", "beta"])
def test_a_map_never_decreases_even_if_confident_predictions_are_wrong(kind: str) -> None:
    log_likelihoods, gold, correct = drawn(500)
    fitted = fit(kind, log_likelihoods, gold, 1 - correct)
    order = np.argsort(confidence_of(log_likelihoods))
    assert (np.diff(fitted.confidence(log_likelihoods)[order]) >= 0).all()


def test_isotonic_equals_scikit_learn() -> None:
    log_likelihoods, gold, correct = drawn(400)
    new, _, _ = drawn(400, 5.0, seed=1)  # also outside the range of the fit
    expected = IsotonicRegression(out_of_bounds="clip").fit(confidence_of(log_likelihoods), correct)
    fitted = fit("isotonic", log_likelihoods, gold, correct)
    assert fitted.confidence(new) == pytest.approx(expected.predict(confidence_of(new)))


def test_histogram_gives_the_share_of_right_predictions_in_each_tenth() -> None:
    log_likelihoods, gold, correct = drawn(400)
    order = np.argsort(confidence_of(log_likelihoods))
    expected = np.repeat([correct[part].mean() for part in np.split(order, 10)], 40)
    fitted = fit("histogram", log_likelihoods, gold, correct).confidence(log_likelihoods)
    assert fitted[order] == pytest.approx(expected)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.5, 0.6, 0.75, 1.0]), st.booleans()), min_size=1))
def test_every_kind_handles_ties_and_few_rows(
    rows: list[tuple[float, bool]],
) -> None:
    confidence, right = np.array(rows, dtype=float).T
    with np.errstate(divide="ignore"):
        log_likelihoods = np.log(np.column_stack([confidence, 1 - confidence]))
    log_likelihoods[log_likelihoods == -np.inf] = -800  # finite, but the confidence rounds to 1
    gold = 1 - right.astype(int)
    for kind in CALIBRATOR_KINDS:
        if kind == "temperature" and right.all():
            continue
        fitted = fit(kind, log_likelihoods, gold, right)
        answer = fitted.confidence(log_likelihoods)
        assert ((answer >= 0) & (answer <= 1)).all(), kind
        again = from_json(kind, fitted.to_json())
        assert np.array_equal(again.confidence(log_likelihoods), answer), kind


def test_no_calibrator_changes_a_prediction() -> None:
    log_likelihoods, gold, correct = drawn(300)
    fitted = fit("temperature", log_likelihoods, gold, correct)
    probabilities = fitted.probabilities(log_likelihoods)
    assert np.array_equal(probabilities.argmax(axis=1), log_likelihoods.argmax(axis=1))
    assert np.array_equal(probabilities.max(axis=1), fitted.confidence(log_likelihoods))
    for kind in set(CALIBRATOR_KINDS) - {"temperature"}:
        with pytest.raises(InvalidCalibrator, match=f"{kind} calibrates the confidence .* use t"):
            fit(kind, log_likelihoods, gold, correct).probabilities(log_likelihoods)


def test_load_reads_a_calibrator_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "calibrator.json"
    path.write_text('{"kind": "affine", "parameters": {"slope": 2, "intercept": 0}, "run": "r"}')
    fitted = calibrators.load(path)
    assert fitted == Calibrator("affine", {"slope": 2, "intercept": 0})
    # Twice the logit of 3/4 is the logit of 9/10.
    assert fitted.confidence([[0.0, -np.log(3)]]) == pytest.approx([0.9])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not a calibrator .* writes one"),
        ("[]", "is not a calibrator"),
        ('{"kind": "softer", "parameters": {}}', "'softer': choose temperature, affine"),
        ('{"kind": "temperature", "parameters": {}}', "temperature has the parameters temperature"),
        ('{"kind": "temperature", "parameters": {"temperature": "x"}}', "has the parameters"),
        ('{"kind": "temperature", "parameters": {"temperature": -1}}', "above 0, not -1"),
        ('{"kind": "temperature", "parameters": {"temperature": [1, 2]}}', "cannot be applied"),
        ('{"kind": "beta", "parameters": {"a": 1, "b": NaN, "c": 0}}', "cannot be applied"),
        (
            '{"kind": "histogram", "parameters": {"edges": [0.5], "calibrated": [0.5]}}',
            "histogram cannot be applied",
        ),
    ],
)
def test_the_error_names_an_invalid_file(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "calibrator.json"
    path.write_text(content)
    with pytest.raises(InvalidCalibrator, match=message):
        calibrators.load(path)


def test_the_error_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidCalibrator, match=r"absent\.json is not a calibrator"):
        calibrators.load(tmp_path / "absent.json")


def test_a_temperature_needs_a_wrong_prediction() -> None:
    right = np.array([[-1.0, -2.0], [-3.0, -5.0]])
    with pytest.raises(InvalidCalibrator, match="all 2 predictions are right"):
        fit("temperature", right, np.array([0, 0]), np.ones(2))
    assert 0 < fit("affine", right, np.array([0, 0]), np.ones(2)).confidence(right)[0] < 1


def test_the_error_names_an_unknown_kind() -> None:
    unknown: Any = drawn(20)
    with pytest.raises(InvalidCalibrator, match="'softer': choose temperature, affine, isotonic"):
        fit("softer", *unknown)


def test_to_json_writes_the_parameters_of_the_kind() -> None:
    for kind in CALIBRATOR_KINDS:
        fitted = fit(kind, *drawn(100))
        assert set(json.loads(fitted.to_json())) == set(PARAMETER_NAMES[kind])
