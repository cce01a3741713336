"""Cross-fitting: the folds, the rows of each fit, and runs with too few rows."""

from pathlib import Path

import numpy as np
import pytest

from prunelake.analysis.analyse import BOOTSTRAP_SEED
from prunelake.analysis.calibrators import fit
from prunelake.analysis.recalibration.cross_fitting import FOLD_COUNT, assign_folds, cross_fit
from prunelake.schema.calibrators import (
    CALIBRATOR_KINDS,
    CALIBRATOR_NAMES,
    UNPRUNED_TEMPERATURE,
)
from tests.support.runs.lake_rows import example, prediction, rows_of, write
from tests.support.runs.recalibrated_runs import (
    CONFIDENCE,
    OPTIONS,
    RANKING,
    RUN,
    SCALED,
    R,
    Rows,
    drawn,
    few_predictions,
    rows,
    scores_and_options,
)


def test_equal_prompts_share_a_fold_and_folds_have_equal_sizes() -> None:
    prompts = [f"prompt {i // 2}" for i in range(200)]
    folds = assign_folds(prompts, 0)
    assert np.array_equal(folds[::2], folds[1::2])
    assert np.bincount(folds).tolist() == [40] * FOLD_COUNT
    assert np.array_equal(folds, assign_folds(prompts, 0))
    assert not np.array_equal(folds, assign_folds(prompts, 1))


@pytest.mark.parametrize("name", CALIBRATOR_NAMES)
def test_each_example_is_recalibrated_by_a_fit_to_the_other_folds(name: str) -> None:
    scores, options = scores_and_options(*drawn())
    folds = assign_folds(options.prompts, BOOTSTRAP_SEED)
    kind, source = ("temperature", 0) if name == UNPRUNED_TEMPERATURE else (name, 1)
    fitted = cross_fit(scores, options, BOOTSTRAP_SEED)[name][1]
    assert fitted.confidence is not None
    for fold in range(FOLD_COUNT):
        others = folds != fold
        expected = fit(
            kind,
            options.log_likelihoods[source][others],
            options.gold[source][others],
            scores.correct[source][others],
        )
        unseen = options.log_likelihoods[1][~others]
        assert np.array_equal(fitted.confidence[~others], expected.confidence(unseen))
        if fitted.probabilities is not None:
            assert np.array_equal(fitted.probabilities[~others], expected.probabilities(unseen))


def test_the_right_option_of_an_example_does_not_affect_its_own_fold() -> None:
    log_likelihoods, gold = drawn()
    prompts = [f"prompt {i % 100}" for i in range(200)]
    before = cross_fit(*scores_and_options(log_likelihoods, gold, prompts), BOOTSTRAP_SEED)
    changed_gold = gold.copy()
    changed_gold[[7, 107]] = (gold[[7, 107]] + 1) % OPTIONS  # two examples with the same prompt
    after = cross_fit(*scores_and_options(log_likelihoods, changed_gold, prompts), BOOTSTRAP_SEED)
    folds = assign_folds(prompts, BOOTSTRAP_SEED)
    is_same_fold = folds == folds[7]
    for name in CALIBRATOR_NAMES:
        confidence, changed = before[name][1].confidence, after[name][1].confidence
        assert confidence is not None
        assert changed is not None
        assert np.array_equal(confidence[is_same_fold], changed[is_same_fold]), name
        if name in ("temperature", "affine", UNPRUNED_TEMPERATURE):  # every example affects these
            assert (confidence[~is_same_fold] != changed[~is_same_fold]).all(), name


def mostly_right_predictions(wrong: int) -> Rows:
    return [
        prediction(R, level, f"test:{i}", [0.0, -1.0 - i / 80], int(i < wrong))
        for level in (0, 1)
        for i in range(80)
    ]


@pytest.mark.parametrize(
    ("given", "examples", "note"),
    [
        (few_predictions(30), [], "30 scored rows: at least 50 are needed to calibrate"),
        (
            few_predictions(60),
            [example(R, f"test:{i:03}", position=i, prompt=f"{i % 7}") for i in range(60)],
            "60 scored rows of 7 different prompts: at least 50 are needed to calibrate",
        ),
        (
            mostly_right_predictions(9),
            [],
            "80 scored rows, 71 of them right: at least 10 right and 10 wrong ones are needed to "
            "calibrate",
        ),
    ],
)
def test_a_note_says_that_the_rows_are_too_few(
    tmp_path: Path, given: Rows, examples: Rows, note: str
) -> None:
    write(tmp_path, RUN, predictions=given, examples=examples)
    all_rows = rows(tmp_path, "true")
    assert len(all_rows) == 2 * len(CALIBRATOR_NAMES) * len(CONFIDENCE | RANKING | SCALED)
    moved = f"level 0: {note}"
    for row in all_rows:
        is_moved = row["level"] == 1 and row["calibrator"] == UNPRUNED_TEMPERATURE
        assert row["note"] == (moved if is_moved else note)
        assert row["value"] is row["before"] is row["gain"] is row["delta"] is None
        assert row["n"] == len(given) // 2
    fitted = rows_of(tmp_path, "from calibrators")
    assert {row["parameters"] for row in fitted} == {None}
    assert {row["note"] for row in fitted} == {note, moved}
    assert rows_of(tmp_path, "from recalibrated_reliability") == []
    names = ", ".join(f"'{name}'" for name in CALIBRATOR_NAMES)
    assert rows_of(tmp_path, f"from metrics where variant in ({names})") == []


def test_fifty_rows_are_enough(tmp_path: Path) -> None:
    write(tmp_path, RUN, predictions=few_predictions(50))
    assert {row["note"] for row in rows_of(tmp_path, "from calibrators")} == {None}


def test_a_level_with_too_few_rows_still_gets_the_unpruned_temperature(tmp_path: Path) -> None:
    given = few_predictions(60)
    write(tmp_path, RUN, predictions=given[:60] + given[60:90])
    for row in rows(tmp_path, "level = 1 and metric = 'nll'"):
        is_moved = row["calibrator"] == UNPRUNED_TEMPERATURE
        assert (row["value"] is not None) == is_moved
        assert row["n"] == 30


def test_every_kind_of_calibrator_is_reported() -> None:
    assert set(CALIBRATOR_KINDS) | {UNPRUNED_TEMPERATURE} == set(CALIBRATOR_NAMES)
