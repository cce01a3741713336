"""Queries to a model, and how they are laid out as rows of tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Query:
    """Score each option after the prompt, at each level (ascending). All are token ids."""

    prompt: tuple[int, ...]
    options: tuple[tuple[int, ...], ...]
    levels: tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """A query laid out as one sequence: the prompt, then each option without its last token.

    Option token j is predicted at `position`: the prompt's end for the first one.
    """

    tokens: list[int]
    positions: list[int]
    segments: list[int]  # 0 for the prompt, 1.. for the options
    targets: list[tuple[int, int, int]]  # position, token, option
    levels: tuple[int, ...]

    @property
    def is_branched(self) -> bool:
        """Whether two options stand behind the prompt, which must not see one another."""
        return len({*self.segments}) > 2

    @property
    def read(self) -> list[int]:
        """The positions that predict a target, ascending."""
        return sorted({position for position, _, _ in self.targets})


def lay_out(
    prompt: Sequence[int], options: Sequence[Sequence[int]], levels: tuple[int, ...]
) -> Row:
    """The row of some options behind one prompt."""
    end = len(prompt) - 1
    tokens, positions, segments = [*prompt], [*range(len(prompt))], [0] * len(prompt)
    targets = []
    for number, option in enumerate(options):
        start = len(tokens)
        tokens += option[:-1]
        positions += range(end + 1, end + len(option))
        segments += [number + 1] * (len(option) - 1)
        for place, token in enumerate(option):
            targets.append((end if place == 0 else start + place - 1, token, number))
    return Row(tokens, positions, segments, targets, levels)


def inputs_of(rows: Sequence[Row], dtype: torch.dtype) -> dict[str, Tensor]:
    """What a model is given to run these rows as one batch, padded on the right."""
    inputs = {"input_ids": padded([row.tokens for row in rows])}
    # No token looks to the right: but for branches, being causal is enough.
    if any(row.is_branched for row in rows):
        segments = [row.segments for row in rows]
        if all(own == segments[0] for own in segments):
            segments = segments[:1]
        inputs["attention_mask"] = _branches_mask(padded(segments, -1), dtype)
        inputs["position_ids"] = padded([row.positions for row in rows])
    return inputs


def padded(rows: Sequence[Sequence[int]], fill: int = 0) -> Tensor:
    """Rows of one length [rows, longest]."""
    length = max(len(row) for row in rows)
    return torch.tensor([[*row, *[fill] * (length - len(row))] for row in rows])


def _branches_mask(segments: Tensor, dtype: torch.dtype) -> Tensor:
    """Additive mask [rows, 1, tokens, tokens]: a token sees the prompt and its own option so far.

    Padding (segment -1) sees itself and the prompt, so that no row of the softmax is empty.
    """
    length = segments.shape[1]
    query, key = segments[:, :, None], segments[:, None, :]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    visible = causal & ((key == 0) | (key == query))
    mask = torch.zeros(visible.shape, dtype=dtype).masked_fill(~visible, torch.finfo(dtype).min)
    return mask[:, None]
