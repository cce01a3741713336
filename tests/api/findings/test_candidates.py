"""Sentences about a comparison name its candidates, and the baseline."""

from prunelake.api.findings import changes, level_rows, sentences
from prunelake.api.findings.headline import headline
from prunelake.api.findings.level_names import LevelNames
from tests.support.runs.example_runs import metric_rows

LABELS = ("fp16", "int8", "int4", "bf16")
RUN = {"strategy": "comparison", "identity": '{"kind": "import"}', "example_count": 80}

ROWS = metric_rows(
    labels=LABELS,
    verdicts={
        "accuracy": {1: "equivalent", 2: "visible degradation", 3: "equivalent"},
        "ece": {1: "hidden degradation", 2: "visible degradation", 3: "equivalent"},
    },
    accuracy={0: 0.61, 1: 0.6, 2: 0.4, 3: 0.61},
    ece={0: 0.1, 1: 0.2, 2: 0.3, 3: 0.1},
)


def test_the_sentences_name_candidates() -> None:
    assert sentences.summary_sentences(ROWS) == [
        "Accuracy is stable for int8 and bf16: two one-sided tests show that it is within 0.02 of "
        "the baseline's 0.61. It falls for int4, to 0.40.",
        "Hidden degradation, worse while accuracy is stable: ECE for int8 (0.10 to 0.20).",
    ]
    assert sentences.metric_clause(ROWS, "ece") == "ECE is worse for int8"
    assert changes.change_clause(ROWS, "accuracy") == "accuracy goes from 0.61 to 0.40 for int4"
    assert level_rows.default_level(ROWS) == 1


def test_the_finding_begins_with_the_candidate_that_lost_something_hidden() -> None:
    assert headline(RUN, ROWS) == (
        "int8: hidden degradation of ECE (0.10 to 0.20); "
        "int4: visible loss of accuracy (0.61 to 0.40); "
        "bf16: accuracy and ECE stay within their margins"
    )


def test_the_finding_says_that_no_candidate_lost_anything_hidden() -> None:
    accuracy = {0: 0.61, 1: 0.61}
    rows = metric_rows(labels=LABELS, verdicts={"accuracy": {1: "equivalent"}}, accuracy=accuracy)
    assert headline(RUN, rows) == (
        "No candidate is shown to lose anything while accuracy holds; "
        "int8: accuracy stays within its margin"
    )
    open_rows = metric_rows(
        labels=LABELS, verdicts={"accuracy": {1: "inconclusive"}}, accuracy=accuracy
    )
    assert headline(RUN, open_rows, names_command=False) == "No verdict is decided"


def test_published_values_of_candidates() -> None:
    values = {0: 0.61, 1: 0.6, 2: 0.4}
    rows = metric_rows(n=None, explained=None, labels=LABELS, accuracy=values, ece=values)
    assert sentences.summary_sentences(rows)[0] == (
        "Published accuracy is 0.61 for the baseline, 0.60 for int8, 0.40 for int4: "
        "ECE 0.61 to 0.60 for int8, 0.61 to 0.40 for int4."
    )


def test_levels_of_removal_have_numbers() -> None:
    names = LevelNames.of(metric_rows(accuracy={0: 0.5, 1: 0.5, 2: 0.5, 4: 0.5}))
    assert (names.at([1, 2, 4]), names.name(4)) == ("at levels 1 to 4", "level 4")
    assert (names.baseline, names.kind) == ("the unpruned model", "level")
