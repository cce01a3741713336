"""A model without some of its blocks, as a plain model with fewer blocks."""

import copy
from collections.abc import Collection

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from prunelake.errors import UnsupportedModel, one_line
from prunelake.models.decoder.decoder_map import decoder_blocks
from prunelake.models.decoder.decoder_probe import PROBE_SHAPE
from prunelake.models.decoder.text_model import spread_token_ids
from prunelake.models.removal import removed

COUNT_NAMES = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")


def model_with_fewer_blocks(
    model: PreTrainedModel, removed_blocks: Collection[int]
) -> PreTrainedModel:
    """A model of its own, whose configuration counts the remaining blocks and renumbers them.

    Lists in the configuration with an entry for each block, such as `layer_types`, lose the entries
    of the removed blocks. The logits are compared with those of the model without these blocks.

    Raises:
        UnknownLayer: as `removed`.
        UnsupportedModel: a configuration cannot describe the remaining blocks, for instance because
            each block depends on its place.
    """
    blocks = decoder_blocks(model)
    kept = [block for position, block in enumerate(blocks) if position not in removed_blocks]
    if not kept:
        raise UnsupportedModel(f"{type(model).__name__}: no block would remain")
    ids = spread_token_ids(model, PROBE_SHAPE)
    with removed(model, removed_blocks, "block"), torch.inference_mode():
        expected = model(input_ids=ids, use_cache=False).logits
    try:
        smaller = _renumbered(model, [block.index for block in kept], len(blocks))
        with torch.inference_mode():
            logits = smaller(input_ids=ids, use_cache=False).logits
    except Exception as error:  # model code raises any type
        raise UnsupportedModel(
            f"{type(model).__name__}: no configuration has its other {len(kept)} blocks "
            f"({type(error).__name__}: {one_line(error)})"
        ) from error
    if not torch.equal(logits, expected):
        deviation = float((logits - expected).abs().max())
        raise UnsupportedModel(
            f"{type(model).__name__}: with {len(kept)} blocks in its configuration, a logit "
            f"differs by {deviation:.3g}, because its blocks depend on their place"
        )
    return smaller


def _renumbered(model: PreTrainedModel, kept: list[int], count: int) -> PreTrainedModel:
    config = copy.deepcopy(model.config)
    _keep_blocks(config.get_text_config(), kept, count)
    config.dtype = model.dtype
    smaller: PreTrainedModel = type(model)(config)
    names = {id(module): name for name, module in model.named_modules()}
    blocks = {names[id(block.module)]: block.index for block in decoder_blocks(model)}
    (path,) = {name.rpartition(".")[0] for name in blocks}
    numbers = {index: number for number, index in enumerate(kept)}
    weights = {}
    for name, weight in model.state_dict().items():
        if name.startswith(f"{path}."):
            index, _, own = name.removeprefix(f"{path}.").partition(".")
            if int(index) not in numbers:
                continue
            name = f"{path}.{numbers[int(index)]}.{own}"
        weights[name] = weight
    smaller.load_state_dict(weights, strict=True, assign=True)  # keeps their number format
    smaller.tie_weights()
    smaller.generation_config = copy.deepcopy(model.generation_config)
    nn.Module.to(smaller, model.device)
    smaller.eval().requires_grad_(False)
    return smaller


def _keep_blocks(config: PretrainedConfig, kept: list[int], count: int) -> None:
    for name, value in vars(config).copy().items():
        if name in COUNT_NAMES and value == count:
            setattr(config, name, len(kept))
        elif isinstance(value, list | tuple) and len(value) == count:
            setattr(config, name, [value[index] for index in kept])
