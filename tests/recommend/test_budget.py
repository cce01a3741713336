"""Budgets: their text form, the errors of invalid texts, and the costs that meet a budget."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunelake.errors import InvalidRequest
from prunelake.recommend.budget import (
    BUDGET_PATTERN,
    COMPARISONS,
    COST_NAMES,
    BudgetTerm,
    CostBudget,
    parse_budget,
)

TERMS = st.builds(
    BudgetTerm,
    st.sampled_from(COST_NAMES),
    st.sampled_from(sorted(COMPARISONS)),
    st.integers(0, 10**9).map(lambda n: n / 10**6),
)


BUDGETS = (
    st.lists(TERMS, min_size=1, max_size=4)
    .map(lambda terms: CostBudget(tuple(terms)))
    .filter(lambda budget: budget.contradiction() is None)
)


@given(BUDGETS, st.sampled_from([",", ", ", " and ", " ,  "]))
def test_a_written_budget_is_parsed_again(budget: CostBudget, joint: str) -> None:
    assert parse_budget(joint.join(map(str, budget.terms))) == budget
    assert parse_budget(str(budget)) == budget


@given(st.text(max_size=20).filter(lambda text: not any(c in text for c in "<>")))
def test_text_without_a_comparison_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^budget term [^\n]*$"):
        parse_budget(text)


@given(st.from_regex(BUDGET_PATTERN, fullmatch=True))
def test_every_budget_that_the_schema_allows_is_parsed_or_contradicts_itself(text: str) -> None:
    terms = [parse_budget(term).terms[0] for term in text.rstrip("\n").split(",")]
    if CostBudget(tuple(terms)).contradiction():
        with pytest.raises(InvalidRequest, match="contradict each other"):
            parse_budget(text)
    else:
        assert parse_budget(text.rstrip("\n")).terms == tuple(terms)


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("speedup>=1.5, speedup<=1.2", "'speedup>=1.5' and 'speedup<=1.2'"),
        ("decode_speedup<1.2, kv_share<1, speedup>=1.2", "'speedup>=1.2' and 'decode_speedup<1.2'"),
        ("speedup>1, speedup<=1", "'speedup>1' and 'speedup<=1'"),
        ("speedup>=1, speedup<=1", None),
        ("speedup>=1, prefill_speedup<=0.5", None),
        ("kv_share<=0.8, kv_share<=0.5", None),
    ],
)
def test_a_contradictory_budget_names_both_terms(text: str, pair: str | None) -> None:
    if pair is None:
        assert parse_budget(text).terms
        return
    with pytest.raises(InvalidRequest, match=f"budget terms {pair} contradict each other"):
        parse_budget(text)


def test_none_gives_a_budget_without_terms() -> None:
    assert parse_budget(None) == CostBudget()
    assert CostBudget().is_met({})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "budget term '' is not a name, one of"),
        ("speedup", "budget term 'speedup' is not a name"),
        ("speedup>=1.2,", "budget term '' is not a name"),
        ("speedup=>1.2", "as in 'speedup>=1.2, kv_share<=0.8'"),
        ("speedup>=-1", "and a number, as in"),
        ("speedup>=1.2.3", "budget term 'speedup>=1.2.3' is not a name"),
        ("speedup>=1e999", "budget term 'speedup>=1e999' is not a name"),
        (
            "kv_shar<=0.8",
            "no cost 'kv_shar', perhaps 'kv_share'; the costs are speedup, decode_speedup",
        ),
        ("removed_layers>=2, price<3", "budget term 'price<3': no cost 'price'; the costs are"),
    ],
)
def test_the_error_names_the_invalid_term_and_the_costs(text: str, words: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        parse_budget(text)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("speedup>=1.25", True),
        ("speedup>1.25", False),
        ("decode_speedup<=1.25", True),
        ("speedup<1.25", False),
        ("speedup>=1 and kv_share<=0.8", True),
        ("speedup>=1 and kv_share<=0.7", False),
        ("prefill_speedup>=1", False),  # not known
        ("removed_layers>=4, removed_share<=0.5", True),
    ],
)
def test_every_term_must_be_met_by_a_known_cost(text: str, met: bool) -> None:
    costs = {"decode_speedup": 1.25, "kv_share": 0.75, "prefill_speedup": None}
    counted = {"removed_layers": 4.0, "removed_share": 0.4}
    assert parse_budget(text).is_met(costs | counted) is met


def test_more_is_better_for_speeds_and_removals_but_not_for_remaining_shares() -> None:
    great = {name for name in COST_NAMES if BudgetTerm(name, ">=", 1).more_is_better}
    small = {"weight_share", "kv_share", "parameter_share", "memory_share"}
    assert set(COST_NAMES) - great == small
