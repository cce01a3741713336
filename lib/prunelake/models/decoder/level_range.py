"""The levels that a model has for each unit."""

from dataclasses import dataclass

from transformers import PreTrainedModel

from prunelake.models.decoder.decoder_map import removable_parts
from prunelake.models.decoder.experts import expert_mixtures
from prunelake.spec import Unit


@dataclass(frozen=True)
class LevelRange:
    """The levels of a unit.

    - `layer_count`: the number of layers with this unit, or of experts in each block.
    - `deepest`: the deepest level. A block keeps as many experts as its router chooses.
    - `parts_per_level`: the number of parts that each level lacks more than the level before it:
      one layer, or one expert of each block.
    """

    layer_count: int
    deepest: int
    parts_per_level: int = 1

    @property
    def part_count(self) -> int:
        """The number of parts in a removal order."""
        return self.layer_count * self.parts_per_level


def level_range(model: PreTrainedModel, unit: Unit) -> LevelRange:
    """The levels of a model, which needs no weights.

    Raises:
        UnsupportedModel: as `removable_parts`, or as `expert_mixtures`.
    """
    layers = removable_parts(model, unit)
    if unit != "expert":
        return LevelRange(len(layers), len(layers))
    mixtures = expert_mixtures(model)
    count = mixtures[0].count
    return LevelRange(count, count - mixtures[0].chosen, len(mixtures))
