"""The branches of a nested pass: the row, the levels and the tokens that each tensor row serves.

A branch is one row of the tensors that run through the model. It serves one row of the batch at all
levels that have computed the same so far. In front of a layer that only some of its levels keep,
the branch splits in two. When its levels keep no further attention, its tokens no longer see each
other: unread tokens are dropped, and the remaining tokens of all such branches are packed into
shared rows. If MLPs are removed, every level keeps all attention, and no token is dropped.
"""

from collections import UserDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prunelake.inference.level_masks import LevelMasks
from prunelake.inference.transfer import send_indices
from prunelake.models.decoder.block_parts import BlockPart
from prunelake.models.decoder.calls import (
    Forward,
    OutputForm,
    first_value,
    hidden_states,
    with_first_value,
)
from prunelake.models.decoder.decoder_probe import DecoderProbe
from prunelake.models.removal import neutral_output


class Branches:
    """The branches of one running forward pass.

    Args:
        masks: the levels that keep each layer.
        levels: the levels of each row of the batch, ascending.
        read: the positions of each row that are read in the end, ascending.
        probe: in which form blocks and parts take and return their tensors.
        has_states: blocks take more tensors than masks and positions, which broadcast.
    """

    def __init__(
        self,
        masks: LevelMasks,
        levels: Sequence[tuple[int, ...]],
        read: Sequence[Sequence[int]],
        probe: DecoderProbe,
        *,
        has_states: bool = False,
    ) -> None:
        self._masks = masks
        row = probe.row_dimension
        self._row_and_token = (row, 2 if row else 1)
        self._row_factors = probe.row_factors
        self._has_states = has_states
        self._block = -1
        self._row_count = len(levels)
        self._read = read
        self._batch_size = len(levels)
        self._running = [*enumerate(levels)]
        self._packed: list[tuple[int, tuple[int, ...]]] = []
        self._packed_tokens = 0
        self._keeping: list[int] = []
        # On the device: the row of each branch, the branches that keep a unit, and the tensors
        # reduced to these rows. All hold until the branches change.
        self._rows: Tensor | None = None
        self._kept: dict[tuple[int, ...], Tensor] = {}
        self._reduced: dict[tuple[int, int], tuple[Tensor, Tensor, Tensor]] = {}
        self.block_tokens = 0
        """Tokens that went through blocks so far, counted once for each block."""

    def enter_block(
        self, layer: int, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Split and pack in front of a block; align its other arguments with the branches."""
        self._block = layer
        hidden = hidden_states(args, kwargs).movedim(self._row_and_token, (0, 1))
        keeping_levels = self._masks.levels_keeping[layer]
        mixing_levels = self._masks.levels_mixing[layer]
        origin: list[int] = []
        running: list[tuple[int, tuple[int, ...]]] = []
        keeping: list[int] = []
        leaving: list[tuple[int, int, tuple[int, ...]]] = []
        for branch, (row, levels) in enumerate(self._running):
            keep = tuple(level for level in levels if level in keeping_levels)
            rest = tuple(level for level in levels if level not in keeping_levels)
            if keep:
                keeping.append(len(running))
            for part in (keep, rest):
                if part and mixing_levels.isdisjoint(part):
                    leaving.append((branch, row, part))
                elif part:
                    origin.append(branch)
                    running.append((row, part))
        is_changed = bool(leaving) or len(running) > len(self._running)
        before, length = hidden.shape[:2]
        order = self._packing(origin, leaving, length) if is_changed else None
        self._running, self._keeping = running, keeping
        hidden, origins = self._arranged(hidden, order, origin)
        self._row_count = hidden.shape[0]
        count = len(keeping) if self._masks.unit == "block" else self._row_count
        self.block_tokens += count * length
        if self._rows is not None:
            rows_of = {before: origins} if origins is not None else {}
            if self._batch_size > 1 or self._has_states:  # otherwise one row is broadcast
                rows_of[self._batch_size] = self._rows
            args, kwargs = self._selected(args, kwargs, rows_of)
        if origins is not None:
            _split_shared_states(kwargs, origins)
        hidden = hidden.movedim((0, 1), self._row_and_token)
        if args:
            return (hidden, *args[1:]), kwargs
        return args, kwargs | {"hidden_states": hidden}

    def gate(self, part: BlockPart, form: OutputForm, forward: Forward) -> Forward:
        """A part that adds nothing to the branches that lack it.

        If it can be skipped, it runs only on the other branches; otherwise on all of them. Its
        output has the form of the original.
        """

        def gated(*args: Any, **kwargs: Any) -> Any:
            keeping, count = self._keeping, self._row_count
            if part.block != self._block or len(keeping) == count:
                return forward(*args, **kwargs)
            if not form.can_skip:
                output = forward(*args, **kwargs)
                first = first_value(output)
                neutral = neutral_output(part, form, forward, args, kwargs, first)
                return with_first_value(output, _rows_from(first, neutral, keeping, count))
            added = neutral_output(part, form, forward, args, kwargs)
            if keeping:
                hidden = hidden_states(args, kwargs)
                rows = self._kept[tuple(keeping)]
                index = rows.to(hidden.device)
                args, kwargs = self._selected(args, kwargs, {count: rows})
                kwargs = {name: _shared_states_of(value, rows) for name, value in kwargs.items()}
                own = hidden.index_select(0, index)
                if args:
                    args = (own, *args[1:])
                else:
                    kwargs["hidden_states"] = own
                output = forward(*args, **kwargs)
                added = added.clone() if part.adds_residual else added
                added.index_copy_(0, index, first_value(output))
            return form.wrap(added)

        return gated

    def rows_and_levels(self) -> list[tuple[int, tuple[int, ...]]]:
        """The row and the levels that each branch serves."""
        return [*self._running, *self._packed]

    def read_locations(
        self, length: int
    ) -> list[tuple[int, tuple[int, ...], list[tuple[int, int]]]]:
        """The row, the levels and the indices of the read tokens of each branch, in the end.

        The indices point into the hidden states, which have `length` tokens in each row.
        """
        locations = [
            (row, levels, [(branch, position) for position in self._read[row]])
            for branch, (row, levels) in enumerate(self._running)
        ]
        offset = len(self._running) * length
        for row, levels in self._packed:
            count = len(self._read[row])
            locations.append((row, levels, [divmod(offset + n, length) for n in range(count)]))
            offset += count
        return locations

    def _arranged(
        self, hidden: Tensor, order: NDArray[np.int64] | None, origin: Sequence[int]
    ) -> tuple[Tensor, Tensor | None]:
        """The hidden states in their new order, if there is one, and each row's previous branch.

        All indices that this block needs go to the device in one copy.
        """
        rows_count, length = hidden.shape[:2]
        total = rows_count if order is None else len(order) // length
        keeping = tuple(self._keeping)
        parts: dict[str, Any] = {}
        if order is not None:
            self._kept.clear()
            self._reduced.clear()
            # Packed rows may get any arguments: only attention uses them, and they skip it.
            fillers = [0] * (total - len(self._running))
            parts["order"] = order
            parts["rows"] = [row for row, _ in self._running] + fillers
            if self._has_states:
                parts["origins"] = [*origin, *fillers]
        if 0 < len(keeping) < total and keeping not in self._kept:
            parts["keeping"] = keeping
        if not parts:
            return hidden, None
        sent = dict(zip(parts, send_indices([*parts.values()], hidden.device), strict=True))
        if "keeping" in sent:
            self._kept[keeping] = sent["keeping"]
        if order is None:
            return hidden, None
        self._rows = sent["rows"]
        tokens = hidden.flatten(0, 1).index_select(0, sent["order"])
        hidden = tokens.view(-1, length, *hidden.shape[2:])
        return hidden, sent.get("origins")

    def _packing(
        self,
        origin: Sequence[int],
        leaving: Sequence[tuple[int, int, tuple[int, ...]]],
        length: int,
    ) -> NDArray[np.int64]:
        """The previous place of each token: of the running branches, then of packed tokens."""
        start = len(self._running) * length
        positions = np.arange(length)
        parts = [
            (np.array(origin, np.int64)[:, None] * length + positions).ravel(),
            np.arange(start, start + self._packed_tokens),
            *(branch * length + np.array(self._read[row]) for branch, row, _ in leaving),
        ]
        index = np.concatenate(parts)
        self._packed += [(row, levels) for _, row, levels in leaving]
        self._packed_tokens = len(index) - len(origin) * length
        # The last row is filled with an arbitrary token.
        return np.concatenate([index, np.zeros(-len(index) % length, np.int64)])

    def _selected(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], rows_of: dict[int, Tensor]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments behind the hidden states, with the given rows of each tensor of rows.

        A tensor with one of these numbers of rows has rows. It may have several entries for each
        row. Other tensors stay: the model broadcasts them. All blocks get the same masks and
        positions, which are reduced once while the branches stay.
        """

        def pick(value: Any, factor: int) -> Any:
            if isinstance(value, tuple):
                return tuple(pick(part, factor) for part in value)
            if not (factor and isinstance(value, Tensor) and value.ndim >= 2):
                return value
            count, rest = divmod(value.shape[0], factor)
            if rest or count not in rows_of:
                return value
            rows = rows_of[count]
            key = id(value), id(rows)
            if key not in self._reduced:  # its tensors stay alive, so ids stay theirs
                own = rows.to(value.device)
                if factor > 1:
                    own = (own[:, None] * factor + torch.arange(factor, device=own.device)).ravel()
                self._reduced[key] = value, rows, value.index_select(0, own)
            return self._reduced[key][2]

        further = [
            pick(value, self._row_factors.get(str(place), 1))
            for place, value in enumerate(args[1:], start=1)
        ]
        named = {
            name: pick(value, self._row_factors.get(name, 1))
            for name, value in kwargs.items()
            if name != "hidden_states"
        }
        if not args:
            named["hidden_states"] = kwargs["hidden_states"]
        return (*args[:1], *further), named


def _split_shared_states(kwargs: dict[str, Any], origins: Tensor) -> None:
    """Split the keys and values that layers share, which a separate dictionary holds."""
    for value in kwargs.values():
        if isinstance(value, UserDict):
            value.update(_shared_states_of(value, origins))


def _shared_states_of(value: Any, rows: Tensor) -> Any:
    """The given rows of keys and values that layers share; any other value as it is."""
    if not isinstance(value, UserDict):
        return value
    return type(value)(
        {
            key: tuple(part.index_select(0, rows.to(part.device)) for part in parts)
            for key, parts in value.items()
        }
    )


def _rows_from(first: Tensor, other: Tensor, keeping: Sequence[int], count: int) -> Tensor:
    """The rows of `first` in the branches that keep a part, and those of `other` elsewhere.

    Both have the rows, or all tokens of the rows, in front.
    """
    is_kept = torch.zeros(count, dtype=torch.bool)
    is_kept[[*keeping]] = True
    is_kept = is_kept.repeat_interleave(first.shape[0] // count).to(first.device)
    return torch.where(is_kept.view(-1, *[1] * (first.ndim - 1)), first, other)
