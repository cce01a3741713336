import polars as pl
import pytest

from prunelake.api.findings import changes, level_rows, sentences
from prunelake.api.findings.sentences import GuessingAccuracy
from tests.support.runs.example_runs import Values, metric_rows

ACCURACY = {0: 0.61, 2: 0.62, 4: 0.6, 6: 0.55, 8: 0.6, 10: 0.4}
OF_ACCURACY = {
    2: "equivalent",
    4: "equivalent",
    6: "inconclusive",
    8: "equivalent",
    10: "visible degradation",
}
UNSURE = dict.fromkeys((2, 4), "inconclusive")


@pytest.mark.parametrize(
    ("accuracy", "verdicts", "stable", "shown"),
    [
        (ACCURACY, OF_ACCURACY, [2, 4, 8], 8),
        ({0: 0.5, 2: 0.5, 4: 0.5}, UNSURE, [], 2),
        ({0: 0.5, 2: None, 4: 0.5}, UNSURE, [], 4),
        ({0: 0.5}, {}, [], None),
        ({0: None, 2: None}, {}, [], None),
    ],
)
def test_stable_levels_and_the_default_level(
    accuracy: Values, verdicts: dict[int, str], stable: list[int], shown: int | None
) -> None:
    rows = metric_rows(verdicts={"accuracy": verdicts}, accuracy=accuracy)
    rows = rows.sample(fraction=1, shuffle=True, seed=3)
    assert level_rows.stable_levels(rows) == stable
    assert level_rows.default_level(rows) == shown


def test_hidden_degradation_is_named_with_its_levels_and_values() -> None:
    rows = metric_rows(
        verdicts={
            "accuracy": OF_ACCURACY,
            "ece": {
                2: "equivalent",
                4: "hidden degradation",
                6: "worse",
                8: "hidden degradation",
                10: "visible degradation",
            },
            "comprehensiveness": dict.fromkeys((2, 4, 8), "hidden degradation"),
            "sufficiency": dict.fromkeys((2, 4, 8), "inconclusive"),
        },
        accuracy=ACCURACY,
        ece={0: 0.1, 2: 0.1, 4: 0.15, 6: 0.2, 8: 0.174, 10: 0.3},
        comprehensiveness={0: 0.3, 2: 0.25, 4: 0.2, 8: 0.298},
        sufficiency={0: 0.1, 2: 0.1, 4: 0.1, 8: 0.1},
    )
    assert sentences.summary_sentences(rows) == [
        "Accuracy is stable at levels 2, 4 and 8: two one-sided tests show that it is within "
        "0.02 of the unpruned 0.61. It falls at level 10, to 0.40. It is inconclusive at level "
        "6; the change there may be \N{MINUS SIGN}0.09 to \N{MINUS SIGN}0.03 (90 % interval).",
        "Hidden degradation, worse while accuracy is stable: ECE at levels 4 and 8 (0.10 to 0.17); "
        "comprehensiveness at levels 2, 4 and 8 (0.300 to 0.298).",
        "Inconclusive at level 8: sufficiency (a change below 0.062 could have been missed).",
    ]
    assert sentences.metric_clause(rows, "ece") == "ECE is worse at levels 4 and 8"
    assert sentences.metric_clause(rows, "comprehensiveness") == (
        "comprehensiveness is worse at all of them"
    )
    assert sentences.metric_clause(rows, "sufficiency") == (
        "sufficiency is not shown to be worse there"
    )
    assert sentences.metric_clause(rows, "flip_rate") is None


def test_stable_levels_without_anything_worse() -> None:
    rows = metric_rows(
        verdicts={
            "accuracy": {2: "equivalent"},
            "ece": {2: "equivalent"},
            "auroc": {2: "improved"},
        },
        accuracy={0: 0.5, 2: 0.5},
        ece={0: 0.1, 2: 0.1},
        auroc={0: 0.5, 2: 0.6},
    )
    assert sentences.summary_sentences(rows)[1:] == [
        "At the stable levels no metric is shown to be worse beyond its margin."
    ]
    assert sentences.metric_clause(rows, "ece") == "ECE is equivalent there"
    assert sentences.metric_clause(rows, "auroc") == (
        "AUROC of confidence is not shown to be worse there"
    )


def test_a_change_within_its_margin_is_no_hidden_degradation() -> None:
    rows = metric_rows(
        verdicts={
            "accuracy": {1: "equivalent", 2: "equivalent", 3: "inconclusive"},
            "auroc": {1: "equivalent", 2: "worse within margin", 3: "worse within margin"},
        },
        accuracy={0: 0.5, 1: 0.5, 2: 0.5, 3: 0.5},
        auroc={0: 0.767, 1: 0.767, 2: 0.764, 3: 0.763},
    )
    assert sentences.summary_sentences(rows)[1:] == [
        "At the stable levels no metric is shown to be worse beyond its margin.",
        "Worse, but within the margin: AUROC of confidence at levels 2 and 3 (0.77 to 0.76).",
    ]
    assert sentences.metric_clause(rows, "auroc") == (
        "AUROC of confidence is within its margin there"
    )
    assert changes.verdict_clause(rows, "auroc") == (
        "AUROC of confidence is worse within its margin at levels 2 and 3 and equivalent at level 1"
    )


def test_too_few_examples_to_show_that_accuracy_is_stable() -> None:
    rows = metric_rows(
        verdicts={
            "accuracy": UNSURE,
            "ece": {2: "inconclusive", 4: "worse"},
            "sufficiency": {2: "improved", 4: "improved"},
        },
        accuracy={0: 0.5, 2: 0.52, 4: 0.5},
        ece={0: 0.1, 2: 0.1, 4: 0.2},
        sufficiency={0: 0.1, 2: 0.05, 4: 0.05},
    )
    assert sentences.summary_sentences(rows) == [
        "No level is shown to keep accuracy within 0.02 of 0.50. It is inconclusive at levels 2 "
        "and 4; the change at level 2 may be \N{MINUS SIGN}0.01 to 0.05 (90 % interval).",
        "Worse than unpruned while accuracy is not stable: ECE at level 4 (0.10 to 0.20).",
        "Inconclusive at level 2: ECE (a change below 0.062 could have been missed).",
    ]
    assert sentences.metric_clause(rows, "ece") == "ECE is worse at level 4"
    assert sentences.metric_clause(rows, "sufficiency") == "sufficiency is not shown to be worse"


def test_accuracy_that_moves_within_its_margin() -> None:
    rows = metric_rows(
        verdicts={"accuracy": {1: "improved", 2: "visible degradation", 3: "visible degradation"}},
        accuracy={0: 0.5, 1: 0.7, 2: 0.4, 3: 0.3},
    )
    assert sentences.summary_sentences(rows) == [
        "No level is shown to keep accuracy within 0.02 of 0.50. It falls at levels 2 and 3, to "
        "0.30 at level 3. It rises at level 1, to 0.70."
    ]
    assert (
        sentences.accuracy_clause(rows) == "Accuracy falls at levels 2 and 3 and is stable at none"
    )


def test_an_unknown_error_has_a_reason() -> None:
    rows = metric_rows(
        verdicts={"accuracy": {2: "equivalent"}, "sufficiency": {2: "inconclusive"}},
        accuracy={0: 0.5, 2: 0.5},
        sufficiency={0: 0.25, 2: 0.25},
    ).with_columns(
        smallest_detectable=None,
        note=pl.lit("no variation among the examples"),
    )
    assert sentences.summary_sentences(rows)[-1] == (
        "Inconclusive at level 2: sufficiency (no variation among the examples)."
    )


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        (
            metric_rows(accuracy={0: 0.5}),
            "Accuracy is 0.50 unpruned; no pruned level was evaluated.",
        ),
        (metric_rows(accuracy={0: None, 2: None}), "No accuracy could be computed."),
        (
            metric_rows(),
            "This run has no metrics; `prunelake analyse` computes them.",
        ),
    ],
)
def test_sentences_without_anything_to_judge(rows: pl.DataFrame, text: str) -> None:
    assert sentences.summary_sentences(rows) == [text]


def test_published_values_have_values_without_verdicts() -> None:
    rows = metric_rows(
        None,
        None,
        accuracy={0: 0.6, 1: 0.6, 2: 0.5},
        ece={0: 0.1, 1: 0.1, 2: 0.2},
        comprehensiveness={0: 0.25, 2: 0.25},
    )
    assert level_rows.is_published(rows)
    assert level_rows.default_level(rows) == 2
    assert sentences.summary_sentences(rows) == [
        "Published accuracy is 0.60 unpruned, 0.50 at level 2: ECE 0.10 to 0.20, comprehensiveness "
        "0.250 to 0.250.",
        "These values were published without examples. So they cannot show which levels keep "
        "accuracy, and which metrics are worse there.",
    ]
    assert sentences.sample_size_note(rows).startswith("Published averages give correlations only")
    assert sentences.near_chance_warning(rows, GuessingAccuracy(0.5, 0.6)) is None
    assert not level_rows.is_published(metric_rows(accuracy={0: 0.5}))


def test_the_caveat_names_n() -> None:
    accuracy = {0: 0.5}
    assert sentences.sample_size_note(metric_rows(n=100, accuracy=accuracy)) == (
        "Tests and intervals use n = 100 examples."
    )
    assert (
        sentences.sample_size_note(
            metric_rows(n=100, explained=10, accuracy=accuracy, comprehensiveness={0: 0.1})
        )
        == "Tests and intervals use n = 100 examples; for explanations, n = 10."
    )
    assert (
        sentences.sample_size_note(metric_rows(accuracy={0: None}))
        == "No example could be scored at level 0."
    )
    assert sentences.sample_size_note(metric_rows()) == ""


@pytest.mark.parametrize(
    ("accuracy", "guessing", "near"),
    [
        (
            0.6,
            GuessingAccuracy(0.5, 0.5),
            ["at random (0.50)", "frequent option (0.50)"],
        ),  # 2 x 0.049 away
        (0.6, GuessingAccuracy(0.25, 0.55), ["frequent option (0.55)"]),
        (0.6, GuessingAccuracy(0.25, 0.5), ["frequent option (0.50)"]),
        (0.3, GuessingAccuracy(0.5, 0.1), ["at random (0.50)"]),  # below chance is not above it
        (0.7, GuessingAccuracy(0.5, 0.6), []),
    ],
)
def test_near_chance(accuracy: float, guessing: GuessingAccuracy, near: list[str]) -> None:
    text = sentences.near_chance_warning(metric_rows(n=96, accuracy={0: accuracy}), guessing)
    assert (text is None) == (not near)
    for part in ("at random", "frequent option"):
        assert (part in (text or "")) == any(part in expected for expected in near)
    for expected in near:
        assert expected in (text or "")


def test_an_explanation_no_better_than_random_is_named() -> None:
    rows = metric_rows(
        comprehensiveness={0: 0.3, 2: 0.1, 4: 0.0},
        random_comprehensiveness={0: 0.1, 2: 0.1, 4: 0.5},
        sufficiency={0: 0.3, 2: 0.1},
        random_sufficiency={0: 0.2, 2: 0.2},
    )
    assert sentences.random_baseline_warning(rows, 2) == (
        "No better than a random ranking of the tokens: comprehensiveness at level 2 (0.10, random "
        "0.10) and sufficiency unpruned (0.30, random 0.20)."
    )
    better = rows.filter((pl.col("metric") == "sufficiency") & (pl.col("level") == 2))
    assert sentences.random_baseline_warning(better, 2) is None
