"""The branches of a nested pass: the row, the levels and the tokens that each tensor row serves.

A branch is one row of the tensors that run through the model. It serves one row of the batch at all
levels that have computed the same so far. In front of a layer that only some of its levels keep,
the branch splits in two. When its levels keep no further attention, its tokens no longer see each
other: unread tokens are dropped, and the remaining tokens of all such branches are packed into
shared rows. If MLPs are removed, every level keeps all attention, and no token is dropped.

A level may lack any set of layers. In a sweep, level k lacks the first k layers of the removal
order. In a search, each candidate lacks the layers removed so far and one more.
"""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prunelake.inference.transfer import send_indices
from prunelake.models.removal import Forward, hidden_states
from prunelake.spec import Unit


class LevelMasks:
    """The levels that keep each layer.

    Args:
        removed: the layers that each level lacks, level 0 first.
        layer_count: the number of blocks of the model.
        unit: the part of a layer that is removed.
    """

    def __init__(
        self,
        removed: Sequence[Collection[int]],
        layer_count: int,
        unit: Unit = "attention",
    ) -> None:
        self.level_count = len(removed)
        self.unit = unit
        self.levels_keeping = [
            frozenset(level for level, lacked in enumerate(removed) if layer not in lacked)
            for layer in range(layer_count)
        ]
        """The levels that keep a layer."""
        all_levels = frozenset(range(self.level_count))
        self.levels_attending = [
            all_levels if unit == "mlp" else frozenset[int]().union(*self.levels_keeping[layer:])
            for layer in range(layer_count)
        ]
        """The levels that keep the attention of this layer or of a layer behind it."""

    @classmethod
    def nested(
        cls, removal_order: Sequence[int], layer_count: int, unit: Unit = "attention"
    ) -> "LevelMasks":
        """Level k lacks the unit of the first k layers of an order."""
        removed = [removal_order[:k] for k in range(len(removal_order) + 1)]
        return cls(removed, layer_count, unit)


class Branches:
    """The branches of one running forward pass.

    Args:
        masks: the levels that keep each layer.
        levels: the levels of each row of the batch, ascending.
        read: the positions of each row that are read in the end, ascending.
    """

    def __init__(
        self,
        masks: LevelMasks,
        levels: Sequence[tuple[int, ...]],
        read: Sequence[Sequence[int]],
    ) -> None:
        self._masks = masks
        self._read = read
        self._batch_size = len(levels)
        self._running = [*enumerate(levels)]
        self._packed: list[tuple[int, tuple[int, ...]]] = []
        self._packed_tokens = 0
        self._keeping: list[int] = []
        # On the device: the row of each branch, the branches that keep a unit, and what was
        # reduced to these rows. All hold until the branches change.
        self._rows: Tensor | None = None
        self._kept: dict[tuple[int, ...], Tensor] = {}
        self._selected: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
        self.block_tokens = 0
        """Tokens that went through blocks so far, counted once for each block."""

    def enter_block(
        self, layer: int, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Split and pack in front of a block; align its other arguments with the branches."""
        hidden = hidden_states(args, kwargs)
        keeping_levels = self._masks.levels_keeping[layer]
        attending_levels = self._masks.levels_attending[layer]
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
                if part and attending_levels.isdisjoint(part):
                    leaving.append((branch, row, part))
                elif part:
                    origin.append(branch)
                    running.append((row, part))
        is_changed = bool(leaving) or len(running) > len(self._running)
        order = self._packing(origin, leaving, hidden.shape[1]) if is_changed else None
        self._running, self._keeping = running, keeping
        hidden = self._arranged(hidden, order)
        count = len(keeping) if self._masks.unit == "block" else hidden.shape[0]
        self.block_tokens += count * hidden.shape[1]
        if self._rows is not None:
            kwargs = self._select_batched(kwargs, self._rows, self._batch_size)
        if args:
            return (hidden, *args[1:]), kwargs
        return args, kwargs | {"hidden_states": hidden}

    def gate(self, forward: Forward, is_attention: bool) -> Forward:
        """An attention or MLP that runs only on the branches that keep it, and adds zero to others.

        It returns a tuple or a tensor, as the original does.
        """

        def gated(*args: Any, **kwargs: Any) -> Any:
            hidden = hidden_states(args, kwargs)
            keeping, count = self._keeping, hidden.shape[0]
            if len(keeping) == count:
                return forward(*args, **kwargs)
            added = torch.zeros_like(hidden)
            if keeping:
                rows = self._kept[tuple(keeping)]
                index = rows.to(hidden.device)
                kwargs = self._select_batched(kwargs, rows, count)
                own = hidden.index_select(0, index)
                if args:
                    args = (own, *args[1:])
                else:
                    kwargs["hidden_states"] = own
                output = forward(*args, **kwargs)
                kept = output[0] if is_attention else output
                added.index_copy_(0, index, kept)
            return (added, None) if is_attention else added

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

    def _arranged(self, hidden: Tensor, order: NDArray[np.int64] | None) -> Tensor:
        """The hidden states in their new order, if there is one.

        All indices that this block needs go to the device in one copy.
        """
        rows_count, length, width = hidden.shape
        total = rows_count if order is None else len(order) // length
        keeping = tuple(self._keeping)
        parts: list[Any] = [] if order is None else [order]
        if order is not None:
            self._kept.clear()
            self._selected.clear()
            # Packed rows may get any arguments: only attention uses them, and they skip it.
            fillers = [0] * (total - len(self._running))
            parts.append([row for row, _ in self._running] + fillers)
        is_needed = 0 < len(keeping) < total and keeping not in self._kept
        if is_needed:
            parts.append(keeping)
        if not parts:
            return hidden
        indices = send_indices(parts, hidden.device)
        if is_needed:
            self._kept[keeping] = indices[-1]
        if order is None:
            return hidden
        self._rows = indices[1]
        return hidden.reshape(-1, width).index_select(0, indices[0]).view(-1, length, width)

    def _packing(
        self,
        origin: Sequence[int],
        leaving: Sequence[tuple[int, int, tuple[int, ...]]],
        length: int,
    ) -> NDArray[np.int64]:
        """The place of each token before: the running branches, then the packed tokens in rows."""
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

    def _select_batched(self, kwargs: dict[str, Any], rows: Tensor, size: int) -> dict[str, Any]:
        """`kwargs`, without hidden states, with every tensor of `size` rows reduced to these rows.

        Tensors with one row stay: the model broadcasts them. All blocks get the same masks and
        positions, which are reduced once while the branches stay.
        """

        def pick(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(pick(part) for part in value)
            if not (isinstance(value, Tensor) and value.ndim >= 2 and value.shape[0] == size > 1):
                return value
            key = id(value), id(rows)
            if key not in self._selected:  # its tensors stay alive, so ids stay theirs
                self._selected[key] = value, value.index_select(0, rows.to(value.device))
            return self._selected[key][1]

        return {name: pick(v) for name, v in kwargs.items() if name != "hidden_states"}
