"""Recommendations within a budget of measured costs."""

from pathlib import Path
from typing import Any

import pytest

from prunelake.api.findings.recommendations.answer import answer_sentence
from prunelake.api.findings.recommendations.caveats import caveats
from prunelake.errors import NotFound, NothingToShow
from prunelake.recommend.budget import parse_budget
from tests.support.recommendations import no_level_reason, plain_answer, recommendation
from tests.support.runs.criteria_runs import Loss, compared_run
from tests.support.runs.profile_rows import profiled

BAD: Loss = (0.05, 0.01)


ORDER = [3, 1, 2, 0, 4, 5, 6, 7]


def profile_of(lake: Path, name: str, *speedups: float, **columns: Any) -> None:
    """Write a profile of levels 0, 1, ...; level k decodes speedups[k - 1] times as fast as 0."""
    decode = {level: [4.0 / ratio] * 3 for level, ratio in enumerate((1.0, *speedups))}
    profiled(lake, name, decode, **{"removal_order": ORDER, "layer_count": 8} | columns)


def test_a_budget_limits_measured_costs(tmp_path: Path) -> None:
    compared_run(tmp_path, "run", {1: {}, 2: {}, 3: {"ece": BAD}})
    profile_of(tmp_path, "here", 1.1, 1.25, 1.5)
    result = recommendation(tmp_path, "speedup>=1.2")
    assert result.device == "a CPU, 1 thread"
    assert result.as_it_is.level == 2
    assert result.as_it_is.costs["decode_speedup"] == pytest.approx(1.25)
    assert result.as_it_is.costs["kv_share"] == pytest.approx(32 / 64)
    assert plain_answer(tmp_path, "speedup<1.2").level == 1
    assert no_level_reason(tmp_path, "speedup>=1.3") == "quality"
    assert no_level_reason(tmp_path, "speedup>=2") == "over_budget"
    (candidate,) = plain_answer(tmp_path, "speedup>=2").candidates
    near = candidate.nearest_level(parse_budget("speedup>=2"))
    assert near is not None
    assert near.level == 3


@pytest.mark.parametrize(("load", "device", "is_busy"), [(13, "cpu", True), (0.5, "cpu", False)])
def test_speeds_from_a_busy_machine_carry_their_caveat(
    tmp_path: Path, load: float, device: str, is_busy: bool
) -> None:
    compared_run(tmp_path, "run", {1: {}})
    decode = {0: [4.0, 5.0, 6.0], 1: [2.0, 5.0, 4.0]}
    columns: dict[str, Any] = {"removal_order": ORDER, "layer_count": 8}
    profiled(tmp_path, "here", decode, device=device, load_average=load, **columns)
    found = recommendation(tmp_path)
    assert found.busy_load == (load if is_busy else None)
    text = answer_sentence(found, found.as_it_is)
    assert "It generates 1.50 times as fast (1.00 to 2.00), reads prompts 1.50 times" in text
    caveat = "These speeds are unreliable: the machine was busy (load 13)."
    assert text.endswith(caveat) == is_busy
    assert any("machine was busy (load 13.0)" in text for text in caveats(found)) == is_busy
    # Also if the answer is none for a budget of speed.
    found = recommendation(tmp_path, "speedup>=3")
    text = answer_sentence(found, found.as_it_is)
    assert text.startswith("Without recalibration: none.")
    assert text.endswith(caveat) == is_busy


def test_sizes_follow_from_the_configuration_of_a_model_with_equal_layers(tmp_path: Path) -> None:
    levels = {2: {}, 3: {}, 4: {"ece": BAD}}
    compared_run(tmp_path, "run", levels, architecture="LlamaForCausalLM")
    answer = plain_answer(tmp_path, "kv_share<=0.65")
    assert (answer.level, answer.costs["kv_share"]) == (3, 5 / 8)
    assert no_level_reason(tmp_path, "kv_share<=0.5") == "quality"
    with pytest.raises(NothingToShow, match="weight_share was never measured"):
        recommendation(tmp_path, "weight_share<=0.9")
    profiled(tmp_path, "here", {0: [4.0], 4: [2.0]}, removal_order=ORDER, layer_count=8)
    answer = plain_answer(tmp_path, "weight_share<=0.7")  # level 4 has 0.6 of the weights
    assert answer.level == 3
    assert answer.costs["weight_share"] == pytest.approx(0.7)
    found = recommendation(tmp_path, "kv_share<=0.7, speedup>=1.2").as_it_is.candidates[0]
    assert [(gap.kind, gap.names, gap.levels) for gap in found.gaps] == [
        ("cost", ("speedup",), (3,))
    ]


def test_the_first_term_of_the_budget_ranks_the_orders(tmp_path: Path) -> None:
    """The deeper of the two orders is slower here."""
    compared_run(tmp_path, "a", {1: {}, 2: {}})
    compared_run(tmp_path, "b", {1: {}}, strategy="last")
    profile_of(tmp_path, "a", 1.1, 1.2)
    profile_of(tmp_path, "b", 1.4, strategy="last")
    assert plain_answer(tmp_path).strategy == "cosine"
    assert plain_answer(tmp_path, "speedup>=1.1").strategy == "last"
    assert plain_answer(tmp_path, "kv_share<=0.8, speedup>=1.1").strategy == "cosine"
    assert plain_answer(tmp_path, "speedup>=1.5").level is None


def test_an_order_without_measured_costs_is_not_recommended_for_a_budget(tmp_path: Path) -> None:
    compared_run(tmp_path, "a", {1: {}})
    compared_run(tmp_path, "b", {1: {}, 2: {}}, strategy="last")
    profile_of(tmp_path, "a", 1.5)
    answer = plain_answer(tmp_path, "speedup>=1.2")
    assert (answer.strategy, answer.level) == ("cosine", 1)
    assert [c.reason for c in answer.candidates] == [None, "cost_unknown"]


def test_a_budget_needs_a_device_if_several_were_measured(tmp_path: Path) -> None:
    compared_run(tmp_path, "run", {1: {}})
    profile_of(tmp_path, "cpu", 1.5)
    profile_of(tmp_path, "gpu", 1.1, device="cuda", device_name="a GPU")
    with pytest.raises(NotFound, match=r"measured on a CPU, 1 thread and a GPU; choose one"):
        recommendation(tmp_path, "speedup>=1.2")
    assert plain_answer(tmp_path, "speedup>=1.2", device="a CPU, 1 thread").level == 1
    assert no_level_reason(tmp_path, "speedup>=1.2", device="a GPU") == "over_budget"
    # Counted costs need no device.
    result = recommendation(tmp_path, "removed_layers>=1")
    assert (result.as_it_is.level, result.device) == (1, None)


def test_a_budget_limits_the_levels_that_pass(tmp_path: Path) -> None:
    compared_run(tmp_path, "run", {1: {}, 2: {}, 3: {"ece": BAD}, 4: {}})
    assert plain_answer(tmp_path, "removed_layers<=1").level == 1
    assert plain_answer(tmp_path, "removed_share<0.25").level == 1
    assert plain_answer(tmp_path, "removed_layers>=1, removed_layers<=2").level == 2
    assert no_level_reason(tmp_path, "removed_layers>=3") == "quality"
    assert no_level_reason(tmp_path, "removed_layers>=9") == "over_budget"
    (candidate,) = plain_answer(tmp_path, "removed_layers>=9").candidates
    near = candidate.nearest_level(parse_budget("removed_layers>=9"))
    assert near is not None
    assert near.level == 4
