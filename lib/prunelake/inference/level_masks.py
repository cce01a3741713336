"""The levels of a nested pass that keep the unit of each block.

A level may lack any set of layers. In a sweep, level k lacks the first k layers of the removal
order. In a search, each candidate lacks the layers removed so far and one more.
"""

from collections.abc import Collection, Sequence

from torch import Tensor

from prunelake.spec import Unit


class LevelMasks:
    """The levels that keep the unit of each block.

    Args:
        removed: the layers that each level lacks, level 0 first.
        layer_count: the number of layers that can be removed.
        unit: the part of a layer that is removed.
        blocks: the position of each layer's block; by default each block is a layer.
        block_count: the number of blocks.
        can_pack: tokens stop mixing when a level keeps no further layer.
    """

    def __init__(
        self,
        removed: Sequence[Collection[int]],
        layer_count: int,
        unit: Unit = "attention",
        blocks: Sequence[int] | None = None,
        block_count: int | None = None,
        *,
        can_pack: bool = True,
    ) -> None:
        self.level_count = len(removed)
        self.unit = unit
        all_levels = frozenset(range(self.level_count))
        layer_of_block = {block: n for n, block in enumerate(blocks or range(layer_count))}
        positions = range(layer_count if block_count is None else block_count)
        keeping = [
            frozenset(level for level, lacked in enumerate(removed) if layer not in lacked)
            for layer in range(layer_count)
        ]
        self.levels_keeping = [
            keeping[layer_of_block[block]] if block in layer_of_block else all_levels
            for block in positions
        ]
        """The levels that keep the unit of a block; all of them if the block has no such unit."""
        self.levels_mixing = [
            frozenset[int]().union(*(keeping[n] for b, n in layer_of_block.items() if b >= block))
            if can_pack and unit != "mlp"
            else all_levels
            for block in positions
        ]
        """The levels whose tokens are mixed in this block or in a block behind it."""
        self.lacking_experts: Tensor | None = None
        """The experts that each level lacks (`experts.lacking_experts`), of the unit expert."""

    @classmethod
    def nested(
        cls, removal_order: Sequence[int], layer_count: int, unit: Unit = "attention"
    ) -> "LevelMasks":
        """Level k lacks the unit of the first k layers of an order."""
        removed = [removal_order[:k] for k in range(len(removal_order) + 1)]
        return cls(removed, layer_count, unit)
