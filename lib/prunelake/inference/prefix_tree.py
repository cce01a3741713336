"""Queries to a model, laid out as trees of tokens that share common beginnings.

Queries that begin alike form one tree, and their common tokens stand in it once: the prompt of
several options, or the first tokens of a prompt's many masked and shortened copies. A token sees
its ancestors and itself, so it computes the same as in a sequence of its own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prunelake.inference.lengths import CPU_LENGTHS, RowLengths
from prunelake.schema.arrays import BoolArray

MIN_SHARED_FRACTION = 1 / 16
"""The least share of tokens that a tree must save; a smaller saving does not pay for its mask."""


@dataclass(frozen=True, slots=True)
class ScoringQuery:
    """Score each option after the prompt, at each level (ascending). All are token ids."""

    prompt: tuple[int, ...]
    options: tuple[tuple[int, ...], ...]
    levels: tuple[int, ...]


@dataclass(frozen=True)
class PrefixTree:
    """A tree of tokens: each query's prompt, and behind it each option without its last token.

    A target is a token that is predicted at `position`, the index of a token of the row, and part
    of an answer: the options of the row's queries, counted from 0 in their order.
    """

    levels: tuple[int, ...]
    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    """The index of the token in front of each, -1 for none; ancestors stand before descendants."""
    targets: list[tuple[int, int, int]] = field(default_factory=list)  # position, token, answer

    @property
    def is_branched(self) -> bool:
        """Whether a token must not see all that stand before it."""
        return self.parents != [*range(-1, len(self.parents) - 1)]

    @property
    def option_count(self) -> int:
        """The options of all its queries."""
        return 1 + max(answer for _, _, answer in self.targets)

    @property
    def read_positions(self) -> list[int]:
        """The positions that predict a target, ascending."""
        return sorted({position for position, _, _ in self.targets})


class _PrefixTreeBuilder:
    """A row that grows by queries."""

    def __init__(self, levels: tuple[int, ...]) -> None:
        self.row = PrefixTree(levels)
        self._nodes: dict[tuple[int, int], int] = {}  # parent, token -> index
        self._answers = 0

    def shared(self, prompt: Sequence[int]) -> int:
        """How many of a prompt's first tokens are there."""
        parent = -1
        for count, token in enumerate(prompt):
            if (parent, token) not in self._nodes:
                return count
            parent = self._nodes[parent, token]
        return len(prompt)

    def add(self, query: ScoringQuery) -> None:
        end = -1
        for token in query.prompt:
            end = self._after(end, token)
        for option in query.options:
            position = end
            for token, following in zip(option, (*option[1:], None), strict=True):
                self.row.targets.append((position, token, self._answers))
                if following is not None:
                    position = self._after(position, token)
            self._answers += 1

    def _after(self, parent: int, token: int) -> int:
        row = self.row
        node = self._nodes.setdefault((parent, token), len(row.tokens))
        if node == len(row.tokens):
            row.tokens.append(token)
            row.parents.append(parent)
        return node


def build_tree(queries: Sequence[ScoringQuery]) -> PrefixTree:
    """The row of queries at the same levels; the prompt of the first query stands in front."""
    tree = _PrefixTreeBuilder(queries[0].levels)
    for query in queries:
        tree.add(query)
    return tree.row


def build_trees(
    queries: Sequence[ScoringQuery], longest: int, lengths: RowLengths = CPU_LENGTHS
) -> Iterator[tuple[PrefixTree, list[tuple[int, int]]]]:
    """All queries as rows, and of each answer of a row the number of its query and of its option.

    Rows of more than one option or query have at most `longest` tokens.
    """
    for group in _group_queries(queries, min(lengths.max_tree_tokens, longest)):
        rows = [(group, build_tree([queries[n] for n in group]))]
        together = lengths.padded(len(rows[0][1].tokens))
        alone = sum(lengths.padded(_unshared_token_count(queries[n])) for n in group)
        if len(group) > 1 and together > (1 - MIN_SHARED_FRACTION) * alone:
            rows = [([n], build_tree([queries[n]])) for n in group]
        for numbers, row in rows:
            owners = [(n, option) for n in numbers for option in range(len(queries[n].options))]
            if len(row.tokens) <= longest:
                yield row, owners
                continue
            for n, option in owners:
                query = replace(queries[n], options=(queries[n].options[option],))
                yield build_tree([query]), [(n, option)]


def _group_queries(queries: Sequence[ScoringQuery], limit: int) -> Iterator[list[int]]:
    """Numbers of queries whose tree has at most `limit` tokens; larger ones stand alone."""
    group: list[int] = []
    tree = _PrefixTreeBuilder(())
    for n in sorted(range(len(queries)), key=lambda n: (queries[n].levels, queries[n].prompt)):
        query = queries[n]
        if _unshared_token_count(query) > limit:
            yield [n]
            continue
        grown = len(tree.row.tokens) + _unshared_token_count(query) - tree.shared(query.prompt)
        if tree.row.levels != query.levels or grown > limit:
            if group:
                yield group
            group, tree = [], _PrefixTreeBuilder(query.levels)
        tree.add(query)
        group.append(n)
    if group:
        yield group


def _unshared_token_count(query: ScoringQuery) -> int:
    """Tokens of a query that shares none."""
    return len(query.prompt) + sum(len(option) - 1 for option in query.options)


def batch_inputs(
    rows: Sequence[PrefixTree], dtype: torch.dtype, lengths: RowLengths = CPU_LENGTHS
) -> dict[str, Tensor]:
    """The inputs of a model that runs these rows as one batch, padded on the right.

    Rows with branches need two more inputs: an additive mask [rows, 1, tokens, tokens] in `dtype`,
    and the number of tokens in front of each token in its sequence.
    """
    length = lengths.padded(max(len(row.tokens) for row in rows))
    inputs = {"input_ids": pad_rows([row.tokens for row in rows], length)}
    # Without a branch, each token only has to be kept from the tokens to its right.
    if any(row.is_branched for row in rows):
        seen = _attention_mask(pad_rows([row.parents for row in rows], length, -1).numpy())
        hidden = ~torch.from_numpy(seen)[:, None]
        mask = torch.zeros(hidden.shape, dtype=dtype)
        inputs["attention_mask"] = mask.masked_fill_(hidden, torch.finfo(dtype).min)
        inputs["position_ids"] = torch.from_numpy(seen.sum(-1) - 1)
    return inputs


def pad_rows(rows: Sequence[Sequence[int]], length: int, fill: int = 0) -> Tensor:
    """Rows of one length [rows, length]."""
    return torch.tensor([[*row, *[fill] * (length - len(row))] for row in rows])


def _attention_mask(parents: NDArray[np.int64]) -> BoolArray:
    """The tokens that each token sees, [rows, tokens, tokens]: its ancestors and itself.

    So does padding, whose parent is -1: no row of the softmax may be empty.
    """
    count, length = parents.shape
    seen = np.tile(np.eye(length, dtype=bool), (count, 1, 1))
    for token, own in enumerate(parents.T):
        seen[:, token] |= seen[np.arange(count), own] & (own >= 0)[:, None]
    return seen
