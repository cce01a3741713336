"""The evidence of runs: scipy on the raw examples, and the looks of a recorded sequential run."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_1samp

from prunelake.analysis import sequential
from prunelake.analysis.sequential import nominal_level
from prunelake.analysis.statistics import tango_interval
from prunelake.gate.criterion import Criterion
from prunelake.gate.decision import decide
from prunelake.gate.evidence import Evidence, RunEvidence
from prunelake.gate.margin_tests import CountSample, PairedCounts, worse_p_value
from prunelake.gate.results import Result
from prunelake.lake.sql.views import connect, query
from prunelake.lake.storage.location import Location
from tests.support.runs.drawn_runs import RUN, R, drawn_explanations, drawn_predictions
from tests.support.runs.lake_rows import prediction, write
from tests.support.runs.sequential_runs import DESIGN, sequential_run, write_first_rows

LEVEL = 2


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Location:
    """A run of 60 examples at three levels, of which 8 are explained."""
    folder = tmp_path_factory.mktemp("lake")
    write(folder, RUN, 200, predictions=drawn_predictions(n=60), **drawn_explanations())
    return folder


def evidence(lake: Location, **fields: str | float) -> Evidence:
    criterion = Criterion.model_validate(fields)
    with connect(lake, [R]) as connection:
        return RunEvidence.read(connection, [1, LEVEL]).of(criterion, LEVEL)


def differences(lake: Location, metric: str, method: str | None = None) -> np.ndarray:
    rows = query(
        lake,
        """
        select value - first(value) over (
            partition by example_id order by level
        ) as difference
        from example_metrics
        where
            metric = $metric
            and level in (0, $level)
            and method is not distinct from $method
            and operator is not distinct from if($method is null, null, 'delete_text')
            and variant is not distinct from if($method is null, null, 'eraser')
        qualify level = $level
        """,
        metric=metric,
        level=LEVEL,
        method=method,
    )
    return rows["difference"].to_numpy()


def test_a_mean_is_tested_by_student_s_t_on_its_examples(lake: Location) -> None:
    for margin in (0.01, 0.1):
        found = evidence(lake, metric="nll", margin=margin)
        losses = differences(lake, "nll")
        expected = ttest_1samp(losses, margin, alternative="greater").pvalue
        # The standard error comes from resamples, so it is only close.
        assert worse_p_value(found.looks, margin) == pytest.approx(expected, abs=0.03)
        assert found.loss == pytest.approx(losses.mean())
        assert found.low is not None
        assert found.low < losses.mean()


def test_right_answers_and_flips_are_counted(lake: Location) -> None:
    changes = differences(lake, "accuracy")
    lost, won = int((changes < 0).sum()), int((changes > 0).sum())
    found = evidence(lake, metric="accuracy", margin=0.05)
    assert [look.sample for look in found.looks] == [PairedCounts(60, lost, won)]
    low, high = tango_interval(lost, won, 60, 0.9)
    assert (found.low, found.high) == pytest.approx((-high, -low))
    flips = int(differences(lake, "flip_rate").sum() + 0.5)
    found = evidence(lake, metric="flip_rate", margin=0.05)
    flips = round(60 * (found.value or 0))
    assert [look.sample for look in found.looks] == [CountSample(60, flips)]
    expected = binomtest(flips, 60, 0.05, alternative="greater").pvalue
    assert worse_p_value(found.looks, 0.05) == pytest.approx(expected)
    upper = binomtest(flips, 60).proportion_ci(0.9, method="exact").high
    assert found.high == pytest.approx(upper)


def test_a_metric_that_compares_with_level_0_has_an_absolute_limit(lake: Location) -> None:
    kl = evidence(lake, metric="kl_from_unpruned", margin=0.01)
    assert kl.baseline_value == 0
    losses = query(lake, "select kl_from_unpruned as kl from paired_predictions where level = 2")[
        "kl"
    ].to_numpy()
    expected = ttest_1samp(losses, 0.0, alternative="greater").confidence_interval(0.95).low
    assert kl.low == pytest.approx(expected, rel=0.15)
    overlap = evidence(lake, metric="overlap_10", margin=0.2)
    assert overlap.baseline_value == 1
    assert overlap.loss == pytest.approx(1 - (overlap.value or 0))
    assert overlap.high is not None


def test_a_criterion_chooses_among_explanations_and_calibrators(lake: Location) -> None:
    usual = evidence(lake, metric="comprehensiveness")
    assert (usual.method, usual.operator, usual.variant) == ("kernel_shap", "delete_text", "eraser")
    lime = evidence(lake, metric="comprehensiveness", method="lime", operator="replace")
    assert (lime.method, lime.operator, lime.variant) == ("lime", "replace", "eraser")
    assert lime.value != usual.value
    assert evidence(lake, metric="overlap_10", method="lime").method == "lime"
    missing = evidence(lake, metric="comprehensiveness", variant="normalised")
    assert missing.high is None
    assert str(missing.note).startswith("the run has no values for normalised; it has kernel_shap")
    raw, recalibrated = (
        evidence(lake, **fields)
        for fields in ({"metric": "ece"}, {"metric": "ece", "variant": "temperature"})
    )
    assert raw.variant is None
    assert recalibrated.variant == "temperature"
    assert recalibrated.value != raw.value
    assert recalibrated.high is not None


@pytest.fixture
def _without_recalibration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the recalibrated metrics, which take most of the time of an analysis."""
    monkeypatch.setattr("prunelake.analysis.analyse.recalibrate", lambda *_: {"metrics": []})


@pytest.mark.usefixtures("_without_recalibration")
def test_a_sequential_run_is_tested_at_every_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequential, "MIN_LOOK", 1)
    run = sequential_run(DESIGN, 40, l1=6)
    run_id = write_first_rows(tmp_path, run, {0: 8, 1: 6, 2: 8})
    with connect(tmp_path, [run_id]) as connection:
        found = RunEvidence.read(connection, [1, 2])
    checked = 0
    for row in query(tmp_path, "from looks where look_run_id is not null").iter_rows(named=True):
        if row["metric"] not in ("accuracy", "nll", "ece", "flip_rate"):
            continue
        evidence = found.of(Criterion(metric=row["metric"]), row["level"])
        look = evidence.looks[row["look"] - 1]
        assert look.sample.n == row["n"]
        # With a margin at the end of its interval, a look rejects exactly at its nominal level.
        end = "equivalence_high" if row["metric"] == "accuracy" else "equivalence_low"
        margin = -row[end] if row["metric"] == "accuracy" else row[end]
        level = nominal_level(look.times.times, 0.05)
        assert look.sample.p_value(margin) == pytest.approx(level, rel=1e-4)
        checked += 1
    assert checked == 24  # four metrics at two levels in three looks
    kl = found.of(Criterion(metric="kl_from_unpruned"), 1)
    assert [look.times.times for look in kl.looks] == [(20 / 60, 40 / 60)]  # the last look only


@pytest.mark.usefixtures("_without_recalibration")
def test_equal_answers_bound_a_loss_by_the_share_that_could_differ(tmp_path: Path) -> None:
    rows = [
        prediction(R, level, f"test:{i}", [0.0, -1.0 - i % 3], gold=int(i % 5 == 0))
        for level in (0, 1)
        for i in range(300)
    ]
    write(tmp_path, RUN | {"levels": [0, 1]}, predictions=rows)
    with connect(tmp_path, [R]) as connection:
        found = RunEvidence.read(connection, [1])
    share = 1 - 0.05 ** (1 / 300)  # all of 300 examples are equal with a probability of 5 %
    for metric, factor in (("ece", 2), ("brier", 2)):
        evidence = found.of(Criterion(metric=metric), 1)
        assert (evidence.low, evidence.high) == pytest.approx((-factor * share, factor * share))
        assert (evidence.loss, evidence.note) == (0, None)
        assert worse_p_value(evidence.looks, 0.02) == 1
    unbounded = found.of(Criterion(metric="nll"), 1)
    assert (unbounded.high, unbounded.note) == (None, "no variation among the examples")
    # The views bound it alike.
    verdicts = dict(query(tmp_path, "select metric, verdict from verdicts").rows())
    names = ("accuracy", "ece", "brier", "nll")
    assert [verdicts[name] for name in names] == ["equivalent"] * 3 + ["inconclusive"]
    checks = query(tmp_path, "from criteria where calibrator is null and criterion = 'calibration'")
    assert checks["is_met"].to_list() == [True]
    assert checks["loss_bound"].item() == pytest.approx(2 * share)


def test_a_check_passes_where_the_view_criteria_says_so(lake: Location) -> None:
    rows = query(lake, "from criteria where calibrator is null and level = 2")
    for row in rows.iter_rows(named=True):
        found = evidence(lake, metric=row["metric"])
        (decision,) = decide([found], [row["margin"]])
        assert (decision.result is Result.passed) == row["is_met"]
        assert found.high == pytest.approx(row["loss_bound"])
        assert found.loss == pytest.approx(row["loss"])
