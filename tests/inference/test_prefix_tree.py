"""Rows of tokens: what is laid out together, and what each token sees."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from prunelake.inference.prefix_tree import (
    PrefixTree,
    ScoringQuery,
    batch_inputs,
    build_tree,
    build_trees,
)

TOKENS = st.lists(st.integers(1, 3), min_size=1, max_size=8).map(tuple)
QUERIES = st.lists(
    st.builds(
        ScoringQuery,
        TOKENS,
        st.lists(TOKENS, min_size=1, max_size=3).map(tuple),
        st.sampled_from([(0,), (0, 1)]),
    ),
    min_size=1,
    max_size=12,
)


def sequence(row: PrefixTree, position: int) -> list[int]:
    """The tokens from a row's beginning down to one of its tokens."""
    found = []
    while position >= 0:
        found.append(row.tokens[position])
        position = row.parents[position]
    return found[::-1]


@given(queries=QUERIES, longest=st.integers(0, 40))
def test_each_target_stands_behind_its_own_sequence(
    queries: list[ScoringQuery], longest: int
) -> None:
    seen = []
    for row, owners in build_trees(queries, longest):
        assert len(owners) == row.option_count
        assert len(row.tokens) <= longest or len(owners) == 1
        told: list[list[tuple[list[int], int]]] = [[] for _ in owners]
        for position, token, answer in row.targets:
            told[answer].append((sequence(row, position), token))
        for (n, number), found in zip(owners, told, strict=True):
            query = queries[n]
            assert row.levels == query.levels
            option = query.options[number]
            assert found == [
                ([*query.prompt, *option[:j]], token) for j, token in enumerate(option)
            ]
        seen += owners
    assert sorted(seen) == [
        (n, number) for n, query in enumerate(queries) for number in range(len(query.options))
    ]


@given(queries=QUERIES)
def test_a_tree_has_no_sequence_twice(queries: list[ScoringQuery]) -> None:
    for row, _ in build_trees(queries, longest=1000):
        sequences = [tuple(sequence(row, n)) for n in range(len(row.tokens))]
        assert len({*sequences}) == len(sequences)


@given(queries=QUERIES)
def test_a_token_sees_its_ancestors_and_itself(queries: list[ScoringQuery]) -> None:
    rows = [row for row, _ in build_trees(queries, longest=1000)]
    inputs = batch_inputs(rows, torch.float32)
    length = max(len(row.tokens) for row in rows)
    if "attention_mask" not in inputs:
        assert all(row.parents == [*range(-1, len(row.tokens) - 1)] for row in rows)
        return
    visible = (inputs["attention_mask"][:, 0] == 0).numpy()
    for row, own, positions in zip(rows, visible, inputs["position_ids"], strict=True):
        expected = np.eye(length, dtype=bool)
        for n in range(len(row.tokens)):
            ancestors = [m for m in range(len(row.tokens)) if is_ancestor(row, m, n)]
            expected[n, ancestors] = True
            assert positions[n] == len(ancestors)
        assert (own == expected).all()


def is_ancestor(row: PrefixTree, one: int, other: int) -> bool:
    while other >= 0:
        other = row.parents[other]
        if other == one:
            return True
    return False


def test_options_that_begin_alike_share_it() -> None:
    row = build_tree([ScoringQuery((1, 2), ((3, 4, 5), (3, 4, 6), (7,)), (0,))])
    assert row.tokens == [1, 2, 3, 4]
    assert row.targets == [
        (1, 3, 0),
        (2, 4, 0),
        (3, 5, 0),
        (1, 3, 1),
        (2, 4, 1),
        (3, 6, 1),
        (1, 7, 2),
    ]
    assert not row.is_branched


def test_a_tree_grows_up_to_its_limit() -> None:
    queries = [ScoringQuery((*range(1, 8), n, *range(10, 43)), ((3,),), (0,)) for n in range(7)]
    sizes = [len(row.tokens) for row, _ in build_trees(queries, longest=1000)]
    assert sizes == [7 + 3 * 34, 7 + 3 * 34, 41]
    sizes = [len(row.tokens) for row, _ in build_trees(queries, longest=100)]
    assert sizes == [7 + 2 * 34] * 3 + [41]


def test_queries_that_share_little_stand_alone() -> None:
    queries = [ScoringQuery((1, n, *range(10, 49)), ((3,),), (0,)) for n in range(3)]
    sizes = [len(row.tokens) for row, _ in build_trees(queries, longest=1000)]
    assert sizes == [41] * 3  # together 121 tokens of 123


def test_a_query_longer_than_a_tree_stands_alone() -> None:
    long = ScoringQuery((1, *range(10, 200)), ((3, 4), (5, 6)), (0,))
    rows = [*build_trees([long, ScoringQuery((1, 2), ((3,),), (0,))], longest=1000)]
    assert [(len(row.tokens), owners) for row, owners in rows] == [
        (193, [(0, 0), (0, 1)]),
        (2, [(1, 0)]),
    ]
