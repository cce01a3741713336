"""`open_lake`, `Lake` and `Run` on runs with known answers."""

from pathlib import Path

import numpy as np
import pytest
from polars.testing import assert_frame_equal

import prunelake as pl
from prunelake.analysis import calibrators
from prunelake.errors import InvalidCalibrator, InvalidRequest, LakeError, NotFound, QueryError
from tests.support.runs.example_runs import judged_run
from tests.support.runs.lake_rows import identity_of


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> pl.Lake:
    folder = tmp_path_factory.mktemp("public") / "lake"
    judged_run(folder, "judged")
    return pl.open_lake(folder)


@pytest.fixture
def run(lake: pl.Lake) -> pl.Run:
    return lake.run(identity_of("judged")[1])


def test_values_are_bound_by_place_and_by_name(lake: pl.Lake) -> None:
    by_place = lake.sql("from verdicts where level = ? and metric = ?", [1, "ece"])
    assert by_place["verdict"].to_list() == ["hidden degradation"]
    named = lake.sql("from verdicts where level = $k and metric = $m", {"k": 1, "m": "ece"})
    assert_frame_equal(named, by_place)
    assert lake.sql("select ? as text", ["'; drop view verdicts; --"])["text"].len() == 1
    with pytest.raises(QueryError):
        lake.sql("from verdicts where level = ?")


def test_a_lake_lists_and_opens_its_runs(lake: pl.Lake, run: pl.Run) -> None:
    assert lake.runs()["run_id"].to_list() == [run.id]
    assert repr(lake) == f"Lake({lake.location}, 1 runs)"
    with pytest.raises(LakeError, match=f"it has: {run.id}"):
        lake.run("nope")
    with pytest.raises(LakeError, match="no lake at"):
        pl.open_lake(Path(str(lake.location)) / "missing")


def test_the_default_lake_matches_the_environment(
    lake: pl.Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRUNELAKE_LAKE", str(lake.location))
    assert pl.open_lake().location == lake.location


def test_metrics_and_verdicts_equal_the_views(lake: pl.Lake, run: pl.Run) -> None:
    metrics = run.metrics().filter(metric="accuracy")
    found = lake.sql("select level, value from metrics where metric = 'accuracy' order by level")
    assert_frame_equal(metrics.select("level", "value"), found)
    verdicts = run.verdicts()
    assert {*verdicts["level"]} == {1, 2}
    hidden = verdicts.filter(level=1, metric="ece").row(0, named=True)
    assert hidden["verdict"] == "hidden degradation"
    assert hidden["delta_low"] < hidden["delta"] < hidden["delta_high"]


def test_a_calibrator_is_fitted_to_the_level(lake: pl.Lake, run: pl.Run) -> None:
    rows = lake.sql("select option_log_likelihoods, gold from predictions where level = ?", [1])
    scores = np.array(rows["option_log_likelihoods"].to_list())
    gold = rows["gold"].to_numpy()
    fitted = calibrators.fit("temperature", scores, gold, (scores.argmax(1) == gold).astype(float))
    found = run.calibrator("temperature", level=1)
    assert found.confidence(scores) == pytest.approx(fitted.confidence(scores))
    with pytest.raises(InvalidCalibrator, match="calibrator softer: choose temperature"):
        run.calibrator("softer", level=1)
    with pytest.raises(InvalidCalibrator, match="level 9"):
        run.calibrator(level=9)


def test_a_chart_is_a_picture_in_a_notebook_and_a_file(run: pl.Run, tmp_path: Path) -> None:
    chart = run.chart("verdicts")
    picture, shown = chart._repr_png_()
    assert picture.startswith(b"\x89PNG")
    assert 200 < shown["width"] < 600
    chart.save(tmp_path / "verdicts.svg")
    assert (tmp_path / "verdicts.svg").read_text().startswith("<svg")
    assert "hidden" in chart.title.lower()
    with pytest.raises(InvalidRequest, match=r"\.png"):
        chart.save(tmp_path / "verdicts.pdf")
    for name, options, choice in [
        ("nope", {}, "levels, deltas"),
        ("levels", {"level": 9}, "choose 0, 1, 2"),
    ]:
        with pytest.raises(NotFound, match=choice):
            run.chart(name, **options)  # type: ignore[arg-type]  # a dict has one type of values
