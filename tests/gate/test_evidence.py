"""The evidence of runs: scipy on the raw examples, and the looks of a recorded sequential run."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_1samp

from prunelake.analysis.sequential import nominal_level
from prunelake.analysis.statistics import tango_interval
from prunelake.gate.evidence import Evidence, RunEvidence
from prunelake.gate.gate_file import Criterion
from prunelake.gate.margin_tests import CountSample, PairedCounts, worse_p_value
from prunelake.lake.recorded import RECORDED_LAKE, unpack_lake
from prunelake.lake.sql.views import query
from prunelake.lake.storage.location import Location
from tests.support.drawn_runs import RUN, R, drawn_explanations, drawn_predictions
from tests.support.lake_rows import write

LEVEL = 2


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Location:
    """A run of 60 examples at three levels, of which 8 are explained."""
    folder = tmp_path_factory.mktemp("lake")
    write(folder, RUN, 2000, predictions=drawn_predictions(n=60), **drawn_explanations())
    return folder


def evidence(lake: Location, **fields: str | float) -> Evidence:
    criterion = Criterion.model_validate(fields)
    return RunEvidence(lake, R, [1, LEVEL]).of(criterion, LEVEL)


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
        assert worse_p_value(found.looks, margin) == pytest.approx(expected, abs=0.01)
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
    assert kl.low == pytest.approx(expected, rel=0.05)
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
    assert str(missing.note).startswith("the run has no values with normalised; it has kernel_shap")
    raw, recalibrated = (
        evidence(lake, **fields)
        for fields in ({"metric": "ece"}, {"metric": "ece", "variant": "temperature"})
    )
    assert raw.variant is None
    assert recalibrated.variant == "temperature"
    assert recalibrated.value != raw.value
    assert recalibrated.high is not None


def test_a_sequential_run_is_tested_at_every_look(tmp_path: Path) -> None:
    lake = unpack_lake(RECORDED_LAKE, tmp_path)
    (run_id,) = query(lake, "select run_id from runs where task = 'opinions'")["run_id"]
    rows = query(lake, "from looks where level = 4 and run_id = $run_id", run_id=run_id)
    found = RunEvidence(lake, run_id, [4])
    accuracy = found.of(Criterion(metric="accuracy"), 4)
    counts = rows.filter(metric="accuracy").sort("look")
    assert [look.sample.n for look in accuracy.looks] == counts["n"].to_list()
    for look, row in zip(accuracy.looks, counts.iter_rows(named=True), strict=True):
        assert isinstance(look.sample, PairedCounts)
        change = (look.sample.won - look.sample.lost) / look.sample.n
        assert change == pytest.approx(row["delta"])
        # At the margin where the look rejects at 5 %, its interval ends.
        level = nominal_level(look.times.times, 0.05)
        p_value = look.sample.p_value(-row["equivalence_high"])
        assert p_value == pytest.approx(level, rel=1e-3)
    nll = found.of(Criterion(metric="nll"), 4)
    for look, row in zip(
        nll.looks, rows.filter(metric="nll").sort("look").iter_rows(named=True), strict=True
    ):
        level = nominal_level(look.times.times, 0.05)
        assert look.sample.p_value(row["equivalence_low"]) == pytest.approx(level, rel=1e-3)
        level = nominal_level(look.times.times, 0.025)
        assert look.sample.p_value(row["delta_low"]) == pytest.approx(level, rel=1e-3)
