"""The parts of a model that lose a unit, as modules and as a compact checkpoint stores them."""

from collections.abc import Collection

from transformers import PreTrainedModel

from prunelake.errors import UnknownLayer, UnsupportedModel
from prunelake.models.decoder.block_parts import BlockPart
from prunelake.models.decoder.decoder_map import decoder_blocks, removable_parts
from prunelake.models.decoder.decoder_probe import probe_decoder
from prunelake.models.decoder.modeling_prunelake import AbsentPart
from prunelake.models.decoder.placeholders import absent_parts
from prunelake.spec import Unit


def selected_parts(model: PreTrainedModel, layers: Collection[int], unit: Unit) -> list[BlockPart]:
    """The parts of a unit of `layers`, input first.

    Raises:
        UnknownLayer: a layer that the model does not have.
        UnsupportedModel: MLPs that could not be found, or experts.
    """
    if unit == "expert":
        raise UnsupportedModel(
            f"{type(model).__name__}: experts have no output weights that could be zero, and a "
            "smaller model has no need of a compact checkpoint; see `smaller_model`"
        )
    parts = removable_parts(model, unit)
    for layer in layers:
        if not 0 <= layer < len(parts):
            raise UnknownLayer(f"layer {layer}: the model has layers 0 to {len(parts) - 1}")
    return [part for layer in sorted({*layers}) for part in parts[layer]]


def selected_absent_parts(
    model: PreTrainedModel, layers: Collection[int], unit: Unit
) -> list[AbsentPart]:
    """The selected parts, as a compact checkpoint stores them."""
    blocks, forms = decoder_blocks(model), probe_decoder(model).forms
    return [
        AbsentPart(
            blocks[part.block].index,
            part.name,
            part.kind,
            forms[part.block, part.name].extras,
            forms[part.block, part.name].width,
            forms[part.block, part.name].is_list,
        )
        for part in selected_parts(model, layers, unit)
    ]


def blocks_without_norms(model: PreTrainedModel, absent: Collection[AbsentPart]) -> list[int]:
    """The indices of the blocks that pass their input on without these parts and their norms.

    A part that another layer reads still runs, and needs its norm.
    """
    gone = {(part.block, part.name) for part in (*absent, *absent_parts(model))}
    plain = probe_decoder(model).plain_blocks
    return [
        block.index
        for position, block in enumerate(decoder_blocks(model))
        if position in plain
        and all((block.index, part.name) in gone and not part.is_read_later for part in block.parts)
    ]
