"""A decoder in words: its blocks, the units that can be removed, and what a pass shares."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from transformers import PreTrainedModel

from prunelake.errors import UnsupportedModel
from prunelake.inference.sharing import why_no_packing, why_no_trees
from prunelake.models.decoder.block_parts import MIXER_NAMES, BlockPart
from prunelake.models.decoder.decoder_map import DecoderBlock, decoder_blocks, removable_parts
from prunelake.models.decoder.level_range import level_range
from prunelake.spec import UNIT_NAMES, Unit

PART_NAMES = {**MIXER_NAMES, "mlp": "a dense MLP", "experts": "an MLP of experts"}


def describe_decoder(model: PreTrainedModel) -> str:
    """The output of `prunelake inspect`; the model needs no weights.

    Raises:
        UnsupportedModel: as `decoder_map.decoder_blocks`.
    """
    blocks = decoder_blocks(model)
    lines = [f"{type(model).__name__}: {len(blocks)} blocks that text runs through", ""]
    layouts: dict[tuple[str, ...], list[int]] = {}
    for block in blocks:
        layouts.setdefault(tuple(map(_part_text, block.parts)), []).append(block.index)
    for parts, indices in layouts.items():
        lines += [f"{_block_text(indices)}:", *(f"  {part}" for part in parts)]
    lines += [
        "",
        "What can be removed (`--strategy UNIT:cosine`, `expert:use`; attention by default):",
    ]
    lines += [f"  {unit:17} {text}" for unit, text in _unit_texts(model, blocks)]
    lines += ["", "What the levels of a pass share:", *_sharing_texts(model, blocks), ""]
    lines += [
        "Logits are made by the model's own code behind its last block.",
        "Before a sweep, plain passes over a few tokens confirm this map. Where numbers differ, "
        "less is shared.",
    ]
    return "\n".join(lines)


def _part_text(part: BlockPart) -> str:
    text = f"{part.name}: {type(part.module).__name__}, {PART_NAMES[part.kind]}"
    if part.is_read_later:
        text += "; a later block reads what it computes, so it runs and adds zero"
    return text


def _block_text(indices: Sequence[int]) -> str:
    """Blocks as ranges: "blocks 0 to 2, 4"."""
    runs: list[str] = []
    for _, run in groupby(enumerate(indices), lambda pair: pair[1] - pair[0]):
        own = [index for _, index in run]
        runs.append(str(own[0]) if len(own) == 1 else f"{own[0]} to {own[-1]}")
    return ("block " if len(indices) == 1 else "blocks ") + ", ".join(runs)


def _unit_texts(
    model: PreTrainedModel, blocks: Sequence[DecoderBlock]
) -> Iterator[tuple[Unit, str]]:
    for unit in UNIT_NAMES:
        try:
            layers = removable_parts(model, unit)
        except UnsupportedModel:
            yield unit, "none"
            continue
        where = _block_text([blocks[parts[0].block].index for parts in layers])
        try:
            known = level_range(model, unit)
        except UnsupportedModel as error:
            yield unit, f"none: {error}"
            continue
        text = f"{known.layer_count} {UNIT_NAMES[unit]}, in {where}"
        if known.deepest < known.layer_count:
            text = f"{known.deepest} of {text}"
        yield unit, text


def _sharing_texts(model: PreTrainedModel, blocks: Sequence[DecoderBlock]) -> Iterable[str]:
    trees = _answer(why_no_trees(model, blocks), "no, separate rows")
    yield f"  options in one row         {trees}"
    has_experts = any(part.kind == "experts" for block in blocks for part in block.parts)
    exception = ", but not where experts are removed" if has_experts else ""
    yield f"  levels until they part     yes{exception}"
    for unit in ("attention", "block"):
        name = f"tokens packed ({unit})"
        yield f"  {name:27}{_answer(why_no_packing(blocks, unit), 'no')}"


def _answer(reason: str, refusal: str) -> str:
    return f"{refusal}: {reason}" if reason else "yes"
