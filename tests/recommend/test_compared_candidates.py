"""Recommendations among the candidates of comparisons."""

from pathlib import Path
from typing import Any

import pytest

from prunelake.api.findings.recommendations.answer import answer_sentence
from prunelake.api.findings.recommendations.caveats import caveats
from prunelake.api.findings.recommendations.changes import next_commands
from prunelake.api.findings.recommendations.reasons import reason_sentence
from prunelake.errors import NothingToShow
from tests.support.recommendations import plain_answer, recommendation
from tests.support.runs.criteria_runs import Loss, compared_run

BAD: Loss = (0.05, 0.01)


def test_each_candidate_of_a_comparison_counts_alone(tmp_path: Path) -> None:
    columns: dict[str, Any] = {"strategy": "comparison", "removal_order": [], "layer_count": None}
    levels = {1: {"ece": BAD}, 2: {}}
    compared_run(tmp_path, "a", levels, labels={0: "fp16", 1: "int4", 2: "int8"}, **columns)
    # The same candidates in another order, and more of them, on another task.
    labels = {0: "fp16", 1: "int8", 2: "int4", 3: "int3"}
    compared_run(tmp_path, "b", {1: {}, 2: {}, 3: {}}, labels=labels, task="second", **columns)
    found = recommendation(tmp_path)
    answer = found.as_it_is
    assert (answer.label, answer.removed, answer.costs) == ("int8", (), {"weight_share": 1.0})
    assert answer.candidate is not None
    assert (answer.candidate.label, answer.candidate.tasks) == ("int8", ("demo", "second"))
    reasons = {candidate.label: candidate.reason for candidate in answer.candidates}
    assert reasons == {"int8": None, "int4": "quality", "int3": "task_missing"}
    # int3 was not evaluated on both tasks, so the choice is between two candidates.
    assert (found.candidate_count, found.order_count, found.error_rate) == (3, 2, 0.025)
    assert answer_sentence(found, answer).startswith("Without recalibration: take int8, the small")
    (int4,) = (candidate for candidate in answer.candidates if candidate.label == "int4")
    assert reason_sentence(found, int4).startswith("With int4, it fails: ECE on demo may be worse")
    assert next_commands(found) == ["prunelake report"]
    assert any("The best of 2 candidates is chosen" in text for text in caveats(found))


def test_two_comparisons_of_a_task_give_all_their_candidates(tmp_path: Path) -> None:
    columns: dict[str, Any] = {"strategy": "comparison", "removal_order": [], "layer_count": None}
    for name in ("int8", "int4"):
        compared_run(tmp_path, name, {1: {}}, labels={0: "fp16", 1: name}, **columns)
    compared_run(tmp_path, "cosine", {1: {}})
    answer = plain_answer(tmp_path)
    assert {candidate.label for candidate in answer.candidates} == {"int8", "int4", None}
    # Only removed layers are known to save anything.
    assert (answer.label, answer.strategy, answer.level) == (None, "cosine", 1)


@pytest.mark.parametrize(
    ("sizes", "budget", "label"),
    [
        ({0: 400_000_000, 1: 200_000_000, 2: 100_000_000}, None, "int4"),
        ({0: 400_000_000, 1: 200_000_000, 2: None}, None, "int8"),
        ({0: 400_000_000, 1: 200_000_000, 2: 300_000_000}, "weight_share<=0.5", "int8"),
        ({0: 400_000_000, 1: None, 2: None}, "weight_share<=0.5", None),
    ],
)
def test_the_smallest_candidate_that_passes_is_recommended(
    tmp_path: Path, sizes: dict[int, int | None], budget: str | None, label: str | None
) -> None:
    columns: dict[str, Any] = {"strategy": "comparison", "removal_order": [], "layer_count": None}
    labels = {0: "fp16", 1: "int8", 2: "int4"}
    compared_run(tmp_path, "a", {1: {}, 2: {}}, labels=labels, sizes=sizes, **columns)
    if label is None:
        with pytest.raises(NothingToShow, match="weight_share was never measured"):
            recommendation(tmp_path, budget=budget)
        return
    answer = recommendation(tmp_path, budget=budget).as_it_is
    assert answer.label == label


def test_an_answer_gives_the_size_or_says_that_it_is_unknown(tmp_path: Path) -> None:
    columns: dict[str, Any] = {"strategy": "comparison", "removal_order": [], "layer_count": None}
    for name, size, text in (
        ("a", 200_000_000, "take int8, the smallest candidate that passes (200 MB of weights)"),
        ("b", None, "take int8, whose size is unknown; no candidate of a known size passes"),
    ):
        sizes = {0: 400_000_000, 1: size}
        labels = {0: "fp16", 1: "int8"}
        compared_run(tmp_path / name, name, {1: {}}, labels=labels, sizes=sizes, **columns)
        found = recommendation(tmp_path / name)
        assert answer_sentence(found, found.as_it_is).startswith(f"Without recalibration: {text}.")
