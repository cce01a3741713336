"""The states that run through a nested pass: which rows, levels and tokens each stands for.

A state is a row of the tensors that run through the model; it serves one row of the batch at the
levels that have computed the same so far. In front of a layer that only some of its levels keep it
is split in two. Once its levels keep no attention any more, its tokens do not see one another: the
tokens that nobody reads are dropped, and the others of all such states are packed into shared rows.
Where MLPs are removed every level keeps all attention, and tokens run to the end.

What a level lacks is any set of layers: the first ones of a removal order, so that the levels are
nested, or those removed so far and one more, as the candidates of a search lack them.
"""

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from prunelake.models.removal import Forward, hidden_states
from prunelake.spec import Unit


class LevelMasks:
    """Which levels keep which layers.

    Args:
        removed: the layers whose unit each level lacks, level 0 first.
        layer_count: how many blocks the model has.
        unit: what of a layer is removed.
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
        everyone = frozenset(range(self.level_count))
        self.levels_attending = [
            everyone if unit == "mlp" else frozenset[int]().union(*self.levels_keeping[layer:])
            for layer in range(layer_count)
        ]
        """The levels that keep the attention of this layer or of one behind it."""

    @classmethod
    def nested(
        cls, removal_order: Sequence[int], layer_count: int, unit: Unit = "attention"
    ) -> "LevelMasks":
        """Level k lacks the unit of the first k layers of an order."""
        removed = [removal_order[:k] for k in range(len(removal_order) + 1)]
        return cls(removed, layer_count, unit)


class Branches:
    """The states of one running forward pass.

    Args:
        variants: what the levels keep.
        levels: of each row of the batch, ascending.
        read: the positions of each row that are read in the end, ascending.
    """

    def __init__(
        self,
        variants: LevelMasks,
        levels: Sequence[tuple[int, ...]],
        read: Sequence[Sequence[int]],
    ) -> None:
        self._variants = variants
        self._read = read
        self._batch_size = len(levels)
        self._running = [*enumerate(levels)]
        self._packed: list[tuple[int, tuple[int, ...]]] = []
        self._packed_tokens = 0
        self._keeping: list[int] = []
        self._is_changed = False
        self.block_tokens = 0
        """Tokens that went through a block so far, each block counted that they do not lack."""

    def enter_block(
        self, layer: int, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Split and pack in front of a block; line up its other arguments with the states."""
        hidden = hidden_states(args, kwargs)
        keeping_levels = self._variants.levels_keeping[layer]
        attending_levels = self._variants.levels_attending[layer]
        origin: list[int] = []
        running: list[tuple[int, tuple[int, ...]]] = []
        keeping: list[int] = []
        leaving: list[tuple[int, int, tuple[int, ...]]] = []
        for state, (row, levels) in enumerate(self._running):
            keep = tuple(level for level in levels if level in keeping_levels)
            rest = tuple(level for level in levels if level not in keeping_levels)
            if keep:
                keeping.append(len(running))
            for part in (keep, rest):
                if part and attending_levels.isdisjoint(part):
                    leaving.append((state, row, part))
                elif part:
                    origin.append(state)
                    running.append((row, part))
        if leaving or len(running) > len(self._running):
            hidden = self._repacked(hidden, origin, leaving)
            self._is_changed = True
        self._running, self._keeping = running, keeping
        count = len(keeping) if self._variants.unit == "block" else hidden.shape[0]
        self.block_tokens += count * hidden.shape[1]
        if self._is_changed:
            # What packed rows are given matters only to attention, which they never reach.
            fillers = [0] * (hidden.shape[0] - len(running))
            rows = [row for row, _ in running] + fillers
            kwargs = _select_batched(kwargs, rows, self._batch_size)
        if args:
            return (hidden, *args[1:]), kwargs
        return args, kwargs | {"hidden_states": hidden}

    def gate(self, forward: Forward, is_attention: bool) -> Forward:
        """An attention or MLP that runs only on the states that keep it; to others it adds nothing.

        It answers as the one it stands for, a tuple or a tensor.
        """

        def gated(*args: Any, **kwargs: Any) -> Any:
            hidden = hidden_states(args, kwargs)
            keeping, count = self._keeping, hidden.shape[0]
            if len(keeping) == count:
                return forward(*args, **kwargs)
            added = torch.zeros_like(hidden)
            if keeping:
                kwargs = _select_batched(kwargs, keeping, count)
                if args:
                    args = (_select_rows(hidden, keeping), *args[1:])
                output = forward(*args, **kwargs)
                own = output[0] if is_attention else output
                added.index_copy_(0, torch.tensor(keeping, device=hidden.device), own)
            return (added, None) if is_attention else added

        return gated

    def rows_and_levels(self) -> list[tuple[int, tuple[int, ...]]]:
        """The row and the levels that each state stands for."""
        return [*self._running, *self._packed]

    def read_locations(
        self, length: int
    ) -> list[tuple[int, tuple[int, ...], list[tuple[int, int]]]]:
        """Where each state's read tokens are in the end: row, levels, indices into the hidden.

        `length` is the number of tokens in each row of the hidden states.
        """
        found = [
            (row, levels, [(state, position) for position in self._read[row]])
            for state, (row, levels) in enumerate(self._running)
        ]
        offset = len(self._running) * length
        for row, levels in self._packed:
            count = len(self._read[row])
            found.append((row, levels, [divmod(offset + n, length) for n in range(count)]))
            offset += count
        return found

    def _repacked(
        self,
        hidden: Tensor,
        origin: Sequence[int],
        leaving: Sequence[tuple[int, int, tuple[int, ...]]],
    ) -> Tensor:
        """The running states, each from its origin, then all packed tokens in rows of their own."""
        if not leaving and not self._packed:
            return _select_rows(hidden, origin)
        length, width = hidden.shape[1:]
        tokens = hidden.reshape(-1, width)
        start = len(self._running) * length
        one = torch.arange(length)
        ends = [
            torch.arange(start, start + self._packed_tokens),
            *(state * length + torch.tensor(self._read[row]) for state, row, _ in leaving),
        ]
        index = torch.cat(
            [(torch.tensor(origin, dtype=torch.long)[:, None] * length + one).flatten(), *ends]
        )
        self._packed += [(row, levels) for _, row, levels in leaving]
        self._packed_tokens = len(index) - len(origin) * length
        # Any token fills the last row up.
        index = torch.cat([index, index.new_zeros(-len(index) % length)])
        return tokens.index_select(0, index.to(hidden.device)).view(-1, length, width)


def _select_rows(tensor: Tensor, rows: Sequence[int]) -> Tensor:
    return tensor.index_select(0, torch.tensor(rows, device=tensor.device))


def _select_batched(kwargs: dict[str, Any], rows: Sequence[int], size: int) -> dict[str, Any]:
    """Every tensor among `kwargs` whose first dimension is the `size` rows, at the given rows.

    Tensors of first dimension 1 are broadcast by the model itself and stay.
    """

    def pick(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(pick(part) for part in value)
        batched = isinstance(value, Tensor) and value.ndim >= 2 and value.shape[0] == size > 1
        return _select_rows(value, rows) if batched else value

    return {name: pick(value) for name, value in kwargs.items()}
