"""The finding of a run in one line."""

from typing import Any

import pytest

from prunelake.api.findings.headline import decided_count, headline
from prunelake.spec import Explanation, Rows, SweepSpec
from tests.support.runs.example_runs import Values, Verdicts, metric_rows
from tests.support.runs.lake_rows import run_row

SPEC = SweepSpec(model="tiny", task="demo", rows=Rows(sample=80), explain=Explanation(rows=10))
RUN = run_row(spec=SPEC.model_dump_json(), example_count=80)
ACCURACY = {0: 0.98, 2: 0.98, 4: 0.98, 8: 0.97, 10: 0.83}
ECE = {0: 0.14, 2: 0.14, 4: 0.144, 8: 0.23, 10: 0.3}
COMPREHENSIVENESS = {0: 0.3, 2: 0.3, 8: 0.2}
VERDICTS: dict[str, dict[int, str]] = {
    "accuracy": {
        2: "equivalent",
        4: "equivalent",
        8: "inconclusive",
        10: "visible degradation",
    },
    "ece": {2: "equivalent", 4: "worse within margin", 8: "worse", 10: "visible degradation"},
    "comprehensiveness": {2: "equivalent", 8: "worse"},
}


def told(verdicts: Verdicts = VERDICTS, **run: Any) -> str:
    values: dict[str, Any] = {"ece": ECE, "comprehensiveness": COMPREHENSIVENESS}
    return headline(RUN | run, metric_rows(verdicts=verdicts, accuracy=ACCURACY, **values))


def test_the_most_decided_harmless_level_comes_first_and_then_each_kind_of_loss() -> None:
    assert told() == (
        "Without 2 attention layers, accuracy, ECE and comprehensiveness stay within their "
        "margins; without 8, worse ECE (0.14 to 0.23) and comprehensiveness (0.30 to 0.20) while "
        "accuracy is inconclusive; without 10, visible loss of accuracy (0.98 to 0.83)"
    )


def test_the_deepest_of_equally_decided_harmless_levels_counts() -> None:
    verdicts = VERDICTS | {"comprehensiveness": {2: "inconclusive", 8: "inconclusive"}}
    assert told(verdicts, strategy="mlp:cosine").startswith(
        "Without 4 MLPs, accuracy and ECE stay within their margins; without 8, "
    )


def test_a_level_with_hidden_degradation_is_not_harmless() -> None:
    verdicts = VERDICTS | {"ece": {4: "hidden degradation"}}
    assert told(verdicts).startswith(
        "Without 2 attention layers, accuracy and comprehensiveness stay within their margins; "
        "without 4, hidden degradation of ECE (0.140 to 0.144); "
    )


def test_a_metric_may_get_worse_while_accuracy_rises() -> None:
    verdicts = VERDICTS | {"accuracy": VERDICTS["accuracy"] | {8: "improved"}}
    assert "worse ECE (0.14 to 0.23)" in told(verdicts)
    assert "while accuracy rises" in told(verdicts)


def test_without_a_decided_verdict_the_headline_names_the_settling_sweep() -> None:
    undecided = {name: dict.fromkeys(levels, "inconclusive") for name, levels in VERDICTS.items()}
    assert told(undecided) == (
        "No verdict is decided; to settle the verdicts: "
        "prunelake sweep --model tiny --task demo --rows sample:1300 --explain-rows 1300"
    )
    assert told(undecided, identity='{"kind": "import"}') == "No verdict is decided"


def test_one_decided_metric_does_not_make_a_level_harmless() -> None:
    undecided = {name: dict.fromkeys(levels, "inconclusive") for name, levels in VERDICTS.items()}
    verdicts = undecided | {"comprehensiveness": {2: "equivalent", 8: "inconclusive"}}
    assert told(verdicts).startswith(
        "No level is shown to be harmless or worse; to settle the open verdicts: prunelake sweep "
    )


def test_decided_verdicts_are_counted() -> None:
    rows = metric_rows(verdicts=VERDICTS, accuracy=ACCURACY, ece=ECE)
    assert decided_count(rows) == 7


@pytest.mark.parametrize(
    ("n", "accuracy", "text"),
    [
        (80, {0: 0.5}, "Accuracy is 0.50 unpruned; no pruned level was evaluated"),
        (80, {0: None, 2: None}, "No accuracy could be computed"),
        (None, {0: 0.5, 2: 0.4}, "Published accuracy is 0.50 unpruned, 0.40 at level 2"),
    ],
)
def test_a_run_without_verdicts_gives_the_reason(
    n: int | None, accuracy: Values, text: str
) -> None:
    assert headline(RUN, metric_rows(n=n, accuracy=accuracy)) == text
