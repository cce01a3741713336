"""The sizes of rounds, and the levels that a round explains."""

from hypothesis import given
from hypothesis import strategies as st

from prunelake.analysis.sequential import MIN_LOOK
from prunelake.sweeps.until_decided.rounds import (
    GROWTH,
    OpenQuestions,
    RoundSize,
    next_round,
    round_sizes,
)


@given(st.integers(1, 500), st.integers(1, 20_000))
def test_rounds_grow_by_their_factor_up_to_the_plan(pilot: int, planned: int) -> None:
    sizes = round_sizes(pilot, planned)
    assert sizes[-1] == planned or planned < pilot
    for before, after in zip([pilot, *sizes], sizes[:-1], strict=False):
        assert after >= min(planned, max(MIN_LOOK, GROWTH * before))
        assert after <= max(MIN_LOOK, GROWTH * before + 1)


PLANNED = RoundSize(1000, dict.fromkeys(range(1, 9), 400))


def test_rows_grow_while_an_answer_is_open_and_explanations_at_open_levels() -> None:
    size = RoundSize(100, {1: 24, 2: 24})
    answers = next_round(size, PLANNED, OpenQuestions(rows=True))
    assert answers == RoundSize(140, {1: 24, 2: 24})
    explained = next_round(size, PLANNED, OpenQuestions(rows=False, levels={2}))
    assert explained == RoundSize(100, {1: 24, 2: 52})
    assert next_round(size, PLANNED, OpenQuestions(rows=False)) is None


def test_levels_near_the_border_come_first_and_lost_levels_never() -> None:
    size = RoundSize(100, dict.fromkeys(range(1, 9), 48))
    levels = set(range(1, 9))
    near = next_round(size, PLANNED, OpenQuestions(False, levels, lost=set(), border=7))
    assert near is not None
    assert {level for level, n in near.explained.items() if n > 48} == {5, 6, 7, 8}
    few = next_round(size, PLANNED, OpenQuestions(False, levels, lost={4, 5, 6, 7, 8}, border=3))
    assert few is not None
    assert {level for level, n in few.explained.items() if n > 48} == {1, 2, 3}


def test_a_round_has_the_rows_that_it_explains_and_stops_at_the_plan() -> None:
    size = RoundSize(100, {1: 100})
    assert next_round(size, PLANNED, OpenQuestions(False, {1})) == RoundSize(140, {1: 140})
    used_up = RoundSize(1000, {1: 400})
    assert next_round(used_up, PLANNED, OpenQuestions(True, {1})) is None
