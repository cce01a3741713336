import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scipy.stats import binomtest, false_discovery_control, spearmanr
from sqlfluff.core import FluffConfig, Linter

from prunelake import views
from prunelake.compact import compact
from prunelake.lake import write_analysis
from prunelake.publish import publish
from prunelake.tables import ANALYSIS_VERSION
from tests.lake_rows import (
    attribution,
    bound,
    deletion,
    example,
    identity_of,
    prediction,
    run_row,
    small_analysis,
    write,
    write_raw,
)
from tests.level_rows import explained_run, judged_run, published_run

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs" / "analyst.md").read_text(encoding="utf-8")
SQL = re.findall(r"^```sql\n(.*?)^```", GUIDE, re.DOTALL | re.M)
OTHER_MARGINS, FROM_FILES = SQL[:2]
QUESTIONS = {
    int(number): sql
    for number, sql in re.findall(r"^### (\d+)\. .*?^```sql\n(.*?)^```", GUIDE, re.DOTALL | re.M)
}
PYTHON = re.findall(r"^```python\n(.*?)^```", GUIDE, re.DOTALL | re.M)
DROPS = {
    ("kernel_shap", "delete_text"): 0.5,
    ("lime", "replace"): 0.375,
    ("random", "delete_text"): 0.25,
    ("random", "replace"): 0.25,
}
SURE = [0.99, 0.9, 0.8, 0.7, 0.65, 0.6]
RIGHT = [True, False, True, True, False, True]
SURENESS = [1.95, 3.0, 4.0, 4.5, 5.3, 5.3]
LOST = [0, 1, 2, 3, 8, 100]
POOLED = {"a": ([0.9, 0.8, 0.7], [0.3, 0.35, 0.4]), "b": ([0.5, 0.4, 0.3], [0.1, 0.12, 0.2])}


@dataclass(frozen=True)
class Sources:
    lake: Path
    live: duckdb.DuckDBPyConnection
    snapshot: duckdb.DuckDBPyConnection
    answers: dict[int, pl.DataFrame]


def answered_run(lake: Path, name: str, lost: list[int], **columns: Any) -> None:
    """400 examples, each eighth of them wrong; a level loses so many of the others."""
    run = run_row(name, levels=list(range(len(lost))), example_count=400, **columns)
    run_id = str(run["run_id"])
    write(
        lake,
        run,
        predictions=[
            prediction(run_id, level, f"test:{i}", [-sure, 0.0] if is_wrong else [0.0, -sure])
            for level, (count, sure) in enumerate(zip(lost, SURENESS, strict=False))
            for i in range(400)
            for is_wrong in [i % 8 == 0 or (i % 2 == 1 and i // 2 < count)]
        ],
    )


def spread_run(lake: Path) -> None:
    """Predictions whose confidences are spread out, and one that cannot be scored."""
    run = run_row("spread", task="spread", levels=[0], example_count=len(SURE) + 1)
    run_id = str(run["run_id"])
    write(
        lake,
        run,
        examples=[example(run_id, f"test:{i}", position=i) for i in range(len(SURE) + 1)],
        predictions=[
            *(
                prediction(run_id, 0, f"test:{i}", np.log([p, 1 - p]).tolist(), int(not is_right))
                for i, (p, is_right) in enumerate(zip(SURE, RIGHT, strict=True))
            ),
            prediction(run_id, 0, f"test:{len(SURE)}", [np.nan, -1.0]),
        ],
    )


def seeds_run(lake: Path) -> None:
    """Two seeds that agree by 0.5; at level 1, the scores of every second example are reversed."""
    run = run_row("seeds", task="seeds", example_count=200)
    run_id = str(run["run_id"])
    names = [f"test:{i}" for i in range(200)]
    scores = {0: [3.0, 2.0, 1.0], 1: [3.0, 1.0, 2.0]}
    write(
        lake,
        run,
        predictions=[prediction(run_id, k, name, [0.0, -2.0]) for k in (0, 1) for name in names],
        attributions=[
            attribution(run_id, k, name, [4 - x for x in given] if k * (i % 2) else given, seed=s)
            for k in (0, 1)
            for s, given in scores.items()
            for i, name in enumerate(names)
        ],
        deletions=[
            deletion(run_id, k, name, 0.5, drop, method=method)
            for k in (0, 1)
            for i, name in enumerate(names)
            for method, drop in (("lime", 0.25 + 0.125 * (i % 2)), ("random", 0.125))
        ],
        bounds=[bound(run_id, k, name, lower=0.0, upper=0.5) for k in (0, 1) for name in names],
    )


def alike_run(lake: Path) -> None:
    """The ten top tokens are 0 to 9, 1 to 10 and 10 to 19."""
    run = run_row("alike", task="alike", levels=[0, 1, 2])
    run_id = str(run["run_id"])
    first = {0: 0, 1: 1, 2: 10}
    write(
        lake,
        run,
        predictions=[prediction(run_id, level, "test:0", [0.0, -2.0]) for level in first],
        attributions=[
            attribution(run_id, k, "test:0", [float(start <= i < start + 10) for i in range(20)])
            for k, start in first.items()
        ],
    )


def pooled_run(lake: Path, name: str) -> None:
    """A published table, of accuracy and ECE at three levels."""
    run = run_row(name, model=name, strategy="", levels=[0, 1, 2], example_count=0)
    cell = {"run_id": run["run_id"], **dict.fromkeys(("method", "operator", "variant"), "")}
    write(
        lake,
        run,
        reported=[
            cell | {"level": level, "metric": metric, "value": value}
            for metric, values in zip(("accuracy", "ece"), POOLED[name], strict=True)
            for level, value in enumerate(values)
        ],
    )


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sources]:
    lake = tmp_path_factory.mktemp("analyst") / "lake"
    explained_run(lake, "by cosine", DROPS)
    less = {cell: drop - 0.0625 for cell, drop in DROPS.items()}
    explained_run(lake, "at random", less, strategy="random:0")
    judged_run(lake, "judged", task="judged")
    answered_run(lake, "slipping", LOST, task="judged", strategy="random:0")
    spread_run(lake)
    seeds_run(lake)
    alike_run(lake)
    for name in POOLED:
        pooled_run(lake, name)
    published_run(lake, "published", strategy="cosine")
    with (
        views.connect(lake) as live,
        duckdb.connect(publish(lake), read_only=True) as snapshot,
    ):
        answers = {number: views.select(live, sql) for number, sql in QUESTIONS.items()}
        yield Sources(lake, live, snapshot, answers)


def answer(sources: Sources, number: int, name: str | None = None) -> list[dict[str, Any]]:
    """The rows that answer a question, or those of one run."""
    rows = sources.answers[number]
    return (rows if name is None else rows.filter(run_id=identity_of(name)[1])).to_dicts()


def one(rows: list[dict[str, Any]], **values: Any) -> dict[str, Any]:
    (found,) = [row for row in rows if row | values == row]
    return found


def sure(sureness: float) -> float:
    return float(1 / (1 + np.exp(-sureness)))


def test_twenty_questions_and_two_examples_hold_every_sql_block() -> None:
    assert list(QUESTIONS) == list(range(1, 21))
    assert [OTHER_MARGINS, FROM_FILES, *QUESTIONS.values()] == SQL


def test_the_sql_of_the_guide_is_written_like_that_of_the_views() -> None:
    linter = Linter(config=FluffConfig.from_path(str(ROOT / "sql")))
    for sql in SQL:
        assert [error.desc() for error in linter.lint_string(sql).get_violations()] == [], sql


@pytest.mark.parametrize("number", list(QUESTIONS))
def test_a_question_has_the_same_answer_from_files_and_snapshot(
    sources: Sources, number: int
) -> None:
    found = sources.answers[number]
    assert not found.is_empty()
    assert_frame_equal(found, views.select(sources.snapshot, QUESTIONS[number]))


def test_the_table_names_every_view_with_its_grain_and_columns_it_has(sources: Sources) -> None:
    described = views.describe(sources.live).to_dicts()
    listed = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+) \|$", GUIDE, re.M)
    assert {view: grain for view, grain, _ in listed} == {
        row["view"]: re.split("[:.]", row["comment"])[0] for row in described
    }
    assert len(listed) == len(described)
    columns = {row["view"]: {column["name"] for column in row["columns"]} for row in described}
    for view, _, named in listed:
        others = {"_delta", "_verdict", "overlap_matrix"}
        assert set(re.findall(r"`(\w+)`", named)) - others <= columns[view], view


def test_the_statistics_columns_and_verdicts_exist(sources: Sources) -> None:
    described = views.describe(sources.live).to_dicts()
    columns = {column["name"] for row in described for column in row["columns"]}
    (table,) = re.findall(r"^\| Columns \| Meaning \|\n(.*?)\n\n", GUIDE, re.DOTALL | re.M)
    named = re.findall(r"`(\w+)`", "".join(line.split(" | ")[0] for line in table.splitlines()))
    assert set(named) - {"n"} <= columns
    (table,) = re.findall(r"^\| Verdict \| Says \|\n\|---\|---\|\n(.*?)\n\n", GUIDE, re.S | re.M)
    words = re.findall(r"^\| ([\w ]+) \|", table, re.M)
    macro = (ROOT / "sql" / "44_verdicts.sql").read_text(encoding="utf-8")
    cases = macro.split(" end as verdict")[0]
    assert set(words) == set(re.findall(r"(?:then|else) '([\w ]+)'$", cases, re.M))


def test_the_example_of_other_margins_judges_one_run_by_itself(sources: Sources) -> None:
    run_id = identity_of("slipping")[1]
    found = views.select(sources.live, OTHER_MARGINS.replace("0123456789abcdef", run_id)).to_dicts()
    assert one(found, level=4, metric="ece")["verdict"] == "hidden degradation"
    tested = views.select(
        sources.live,
        f"select level, metric, p_value from deltas where run_id = '{run_id}' and level > 0 "
        "and is_tested and higher_is_better is not null and p_value is not null",
    )
    adjusted = false_discovery_control(tested["p_value"].to_numpy())
    for (level, metric, _), p in zip(tested.iter_rows(), adjusted, strict=True):
        assert one(found, level=level, metric=metric)["p_adjusted"] == pytest.approx(p)


@pytest.mark.parametrize(
    "state", ["plain", "compacted", "analysed again", "older beside", "unfinished", "killed"]
)
def test_the_guide_reads_the_files_of_every_lake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    lake = tmp_path / "lake"
    run_id = explained_run(lake, "first", DROPS)
    explained_run(lake, "second", DROPS)
    run = run_row("older")
    write_raw(lake, run, predictions=[prediction(str(run["run_id"]), 0, "test:0", [-1.0, -2.0])])
    older = ANALYSIS_VERSION - 1
    write_analysis(lake, *small_analysis(str(run["run_id"]), analysis_version=older))
    plain = shutil.copytree(lake, tmp_path / "plain")
    if state == "unfinished":
        # The files of a run that has no head file yet.
        for table in ("predictions", "analyses", "metrics"):
            frame = pl.read_parquet(lake / table / f"{run_id}.parquet")
            other = frame.with_columns(run_id=pl.lit("f" * 16))
            other.write_parquet(lake / table / f"{'f' * 16}.parquet")
    elif state != "plain":
        compact(lake)
    if state == "analysed again":
        write_analysis(lake, *small_analysis(run_id))
    if state == "older beside":
        write_analysis(lake, *small_analysis(run_id, analysis_version=older))
    if state == "killed":
        # What it has merged and not yet removed.
        shutil.copytree(plain, lake, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(PYTHON[-1], names)
    with views.connect(lake) as live:
        for table, key in (
            ("predictions", ["run_id", "level", "example_id"]),
            ("metrics", ["run_id", "level", "metric", "method", "operator", "variant"]),
        ):
            expected = views.select(live, f"from lake.{table} order by {', '.join(key)}")
            assert_frame_equal(names[table].sort(key), expected)
    with duckdb.connect() as bare:
        found = bare.sql(FROM_FILES).pl()
    assert_frame_equal(found.sort(key), expected.select(found.columns))


def test_the_guide_names_the_version_of_the_analyses() -> None:
    named = re.findall(r"analysis_version\W* ==? (\d+)", GUIDE)
    assert named == [str(ANALYSIS_VERSION)] * 2


def test_the_python_on_the_snapshot_runs_beside_the_lake(
    sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(sources.lake.parent)
    names: dict[str, Any] = {}
    exec(PYTHON[0], names)
    assert_frame_equal(
        names["summary"].sort("run_id", "level"),
        views.query(sources.lake, "from summary order by run_id, level"),
    )


def test_hidden_degradation_is_where_accuracy_is_stable(sources: Sources) -> None:
    hidden = answer(sources, 1)
    of = {name: identity_of(name)[1] for name in ("judged", "slipping", "seeds")}
    assert {(r["run_id"], r["level"]) for r in hidden if r["metric"] == "ece"} == {
        (of["judged"], 1),
        (of["slipping"], 1),
        (of["slipping"], 2),
        (of["slipping"], 3),
    }
    row = one(hidden, run_id=of["judged"], metric="ece")
    # One confidence throughout: ECE is its distance from 7/8.
    delta = (sure(5.3) - 0.875) - abs(sure(1.95) - 0.875)
    assert row["delta"] == pytest.approx(delta)
    assert row["delta_low"] < delta < row["delta_high"]
    assert (row["accuracy_delta"], row["n"]) == (0, 400)
    assert -0.02 < row["accuracy_low"] < 0 < row["accuracy_high"] < 0.02
    assert row["p_adjusted"] <= 0.05


def test_accuracy_is_stable_up_to_a_level_where_ece_is_worse(sources: Sources) -> None:
    rows = answer(sources, 2)
    last = {identity_of(n)[1]: k for n, k in [("judged", 1), ("slipping", 3), ("by cosine", 0)]}
    found = {row["run_id"]: row for row in rows}
    assert {run_id: found[run_id]["last_level"] for run_id in last} == last
    assert "ece" in found[identity_of("judged")[1]]["worse_metrics"]
    assert found[identity_of("by cosine")[1]]["worse_metrics"] is None
    # Without examples nothing is known to be stable, nor not to be.
    assert identity_of("published")[1] not in found


def test_levels_after_the_first_loss_do_not_count_as_stable(tmp_path: Path) -> None:
    answered_run(tmp_path, "run", [0, 0, 100, 0])
    assert views.query(tmp_path, QUESTIONS[2])["last_level"].to_list() == [1]


def test_what_is_inconclusive_says_what_could_have_been_seen(sources: Sources) -> None:
    row = one(answer(sources, 3, "by cosine"), level=2, metric="accuracy")
    # One of the two explained examples is lost, none of the two others: a sum of two draws with
    # a standard deviation of 1/2 each, over 4, corrected for n = 4; times 1.96 + 0.84.
    standard_error = np.sqrt(2) / 2 / 4 * np.sqrt(4 / 3)
    assert row["smallest_detectable"] == pytest.approx(2.8016 * standard_error, rel=0.05)
    assert (row["delta"], row["n"]) == (-0.25, 4)
    assert "could have been missed" in row["reason"]
    assert not [r for r in answer(sources, 3, "judged") if r["metric"] in ("accuracy", "ece")]


def test_a_wider_margin_hides_what_a_narrow_one_shows(sources: Sources) -> None:
    rows = [r for r in answer(sources, 4, "slipping") if r["metric"] in ("accuracy", "ece")]
    assert {(r["metric"], r["level"], r["verdict"], r["wider_verdict"]) for r in rows} == {
        ("accuracy", 4, "visible degradation", "equivalent"),
        ("ece", 4, "visible degradation", "hidden degradation"),
    }
    assert [r["accuracy_delta"] for r in rows] == pytest.approx([-8 / 400] * 2)
    assert all(-0.05 < r["accuracy_low"] < -0.02 for r in rows)


def test_methods_stand_side_by_side(sources: Sources) -> None:
    found = {
        (row["metric"], row["method"]): [row[f"level_{level}_delta"] for level in (1, 2)]
        for row in answer(sources, 5, "by cosine")
    }
    assert found["comprehensiveness", "lime"] == pytest.approx([-0.125, -0.25])
    assert found["comprehensiveness", "kernel_shap"] == pytest.approx([-0.125, -0.25])
    assert found["sufficiency", "lime"] == pytest.approx([0, 0])


def test_drift_is_measured_against_the_noise_between_seeds(sources: Sources) -> None:
    rows = answer(sources, 6, "seeds")
    # Half of the examples are reversed: of 0.5 and -0.5.
    drift = one(rows, metric="cross_spearman")
    assert (drift["own_noise"], drift["value"]) == pytest.approx((0.5, 0))
    assert drift["delta"] == pytest.approx(-0.5)
    assert drift["delta_low"] < -0.5 < drift["delta_high"] < -0.4
    assert drift["verdict"] == "hidden degradation"
    noise = one(rows, metric="seed_spearman")
    assert (noise["own_noise"], noise["delta"]) == pytest.approx((0.5, 0))


def test_explanations_are_held_to_chance_and_to_the_best(sources: Sources) -> None:
    row = one(answer(sources, 7, "seeds"), level=1)
    assert (row["advantage"], row["between_bounds"]) == pytest.approx((0.1875, 0.3125 / 0.5))
    half = 1.972 * 0.0625 * np.sqrt(200 / 199) / np.sqrt(200)
    assert row["ci_high"] - row["ci_low"] == pytest.approx(2 * half, rel=0.1)
    assert row["is_better_than_random"] is True
    beaten = {
        (row["level"], row["method"]): (row["advantage"], row["between_bounds"])
        for row in answer(sources, 7, "by cosine")
        if row["metric"] == "comprehensiveness_advantage"
    }
    assert beaten[0, "kernel_shap"] == (pytest.approx(0.25), None)
    assert beaten[2, "lime"] == (pytest.approx(0.125), None)


def test_the_deletion_curve(sources: Sources) -> None:
    curve = [
        (row["level"], row["fraction"], row["mean_drop"], row["n"])
        for row in answer(sources, 8, "by cosine")
        if (row["method"], row["kind"]) == ("kernel_shap", "comprehensiveness")
    ]
    assert curve == [
        (level, fraction, pytest.approx(0.5 - 0.125 * level), 2)
        for level in (0, 1, 2)
        for fraction in (0.1, 0.2)
    ]


def test_levels_that_explain_alike(sources: Sources) -> None:
    shown = ("level", "closest_level", "overlap_with_closest", "overlap_with_unpruned")
    assert [tuple(row[c] for c in shown) for row in answer(sources, 9, "alike")] == [
        (0, 1, pytest.approx(0.9), None),
        (1, 0, pytest.approx(0.9), pytest.approx(0.9)),
        (2, 1, pytest.approx(0.1), 0),
    ]


def test_correlations_over_stable_levels_only(sources: Sources) -> None:
    row = one(answer(sources, 10, "slipping"), metric="mean_confidence")
    accuracy = [350 - lost for lost in LOST]
    assert row["spearman_all"] == pytest.approx(spearmanr(accuracy, SURENESS).statistic)
    assert (row["spearman_stable"], row["stable_level_count"]) == (pytest.approx(-1), 4)
    # Eight answers of 400 are no proof: noise alone orders four levels like that.
    assert (row["spearman_stable_low"], row["is_clear"]) == (-1, row["spearman_stable_high"] < 0)
    published = one(answer(sources, 10, "published"), metric="ece")
    assert published["spearman_stable"] is None
    assert "without examples" in published["note"]


def test_pooling_misleads_where_runs_differ(sources: Sources) -> None:
    row = one(answer(sources, 11), metric="ece", strategy="")
    within = np.hstack(
        [np.array(xy) - np.mean(xy, axis=1, keepdims=True) for xy in POOLED.values()]
    )
    assert row["repeated_measures"] == pytest.approx(np.corrcoef(within)[0, 1])
    assert row["pooled_pearson"] == pytest.approx(
        np.corrcoef(np.hstack(list(POOLED.values())))[0, 1]
    )
    assert row["repeated_measures"] < 0 < row["pooled_pearson"]


def test_overconfidence_with_its_interval(sources: Sources) -> None:
    (row,) = answer(sources, 12, "spread")
    gaps = np.array(SURE) - np.array(RIGHT)
    half = 1.96 * gaps.std(ddof=1) / np.sqrt(len(gaps))
    found = [row[name] for name in ("gap_low", "confidence_gap", "gap_high")]
    assert found == pytest.approx([gaps.mean() - half, gaps.mean(), gaps.mean() + half])
    assert row["n"] == len(SURE)


def test_flips_for_worse_and_for_better(sources: Sources) -> None:
    row = one(answer(sources, 13, "slipping"), level=4)
    assert (row["flip_rate"], row["harmful_rate"], row["beneficial_rate"]) == (0.02, 0.02, 0)
    assert row["p_value"] == pytest.approx(binomtest(0, 8).pvalue)
    assert row["accuracy_delta_low"] < row["accuracy_delta"] == pytest.approx(-0.02)


def test_the_example_that_flips_harmfully_and_its_tokens(sources: Sources) -> None:
    (flipped,) = answer(sources, 14, "by cosine")
    assert flipped["example_id"] == "test:1"
    assert (flipped["first_level"], flipped["harmful_levels"]) == (2, 1)
    assert flipped["right_option"] == "no"
    rows = answer(sources, 15, "by cosine")
    assert [(row["example_id"], row["level"], row["method"]) for row in rows] == [
        ("test:1", 2, "kernel_shap"),
        ("test:1", 2, "lime"),
    ]
    # Scores 0.5, -0.25 x level, 0.1.
    assert rows[0]["unpruned_tokens"] == ["Is", "?", " it"]
    assert rows[0]["tokens"] == ["Is", "?", " it"]
    assert (rows[0]["unpruned_prediction"], rows[0]["prediction"]) == (0, 1)


def test_reasons_that_change_behind_an_answer_that_stays(sources: Sources) -> None:
    rows = answer(sources, 16)
    assert len(rows) == 50
    # Whatever was reversed comes first; in the run of seeds, that is what has odd numbers.
    assert [row["spearman"] for row in rows] == pytest.approx([-1] * 50)
    reversed_ones = answer(sources, 16, "seeds")
    assert reversed_ones
    assert all(int(row["example_id"].split(":")[1]) % 2 for row in reversed_ones)


def test_strategies_are_compared_example_by_example(sources: Sources) -> None:
    rows = answer(sources, 17)
    assert {(r["strategy"], r["other_strategy"]) for r in rows} == {("cosine", "random:0")}
    lime = one(rows, metric="comprehensiveness", method="lime", level=1)
    assert (lime["mean_difference"], lime["n"]) == (pytest.approx(-0.0625), 2)
    # Level 2: one loses every second example, the other every eighth and two more (1 and 3).
    judged = np.array([i % 2 != 0 for i in range(400)], dtype=float)
    slipping = np.array([i % 8 != 0 and i not in (1, 3) for i in range(400)], dtype=float)
    difference = slipping - judged
    row = one(rows, task="judged", metric="accuracy", level=2)
    half = 1.96 * difference.std(ddof=1) / 20
    found = [row[name] for name in ("difference_low", "mean_difference", "difference_high")]
    assert found == pytest.approx(difference.mean() + np.array([-half, 0, half]))
    assert row["n"] == 400


def test_what_was_left_out_has_its_reason(sources: Sources) -> None:
    (row,) = answer(sources, 18)
    assert (row["task"], row["level"], row["examples"]) == ("spread", 0, 1)
    assert row["share"] == pytest.approx(1 / 7)
    assert row["reason"] == "a log-likelihood is NaN"


def test_published_values_that_nobody_measured_here(sources: Sources) -> None:
    rows = answer(sources, 19, "published")
    # The run by cosine has the other three levels.
    deltas: Mapping[tuple[str, str | None], list[float]] = {
        ("accuracy", None): [-0.375, -0.5],
        ("comprehensiveness", "lime"): [-0.25, -0.375],
        ("ece", None): [0.25, 0.375],
    }
    assert [(r["metric"], r["method"], r["level"], r["delta"]) for r in rows] == [
        (*cell, level, by_level[level - 3]) for cell, by_level in deltas.items() for level in (3, 4)
    ]
    assert all("without examples" in row["note"] for row in rows)
    assert len(answer(sources, 19, "a")) == 6


def test_new_metrics_are_those_that_numpy_computes(sources: Sources) -> None:
    (found,) = answer(sources, 20, "spread")
    confidence, is_right = np.array(SURE), np.array(RIGHT)
    bins = np.minimum(np.floor(confidence * 15), 14)
    ece = sum(
        abs(is_right[bins == b].sum() - confidence[bins == b].sum()) for b in np.unique(bins)
    ) / len(SURE)
    assert found["ece_15"] == pytest.approx(ece)
    assert found["confidence_when_wrong"] == pytest.approx(confidence[~is_right].mean())
    assert found["accuracy_of_surer_half"] == pytest.approx(is_right[:3].mean())
