"""Fuse the elementwise work of a model: its norms, and the activation of its MLPs.

In eager mode these write every intermediate result to memory. torch compiles each kind of module
once, for any number of rows and tokens. Roundings between operations stay as in eager mode, so
numbers change in their last bits only, as they do between batches of other shapes.
"""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from prunelake.models.decoder.decoder_map import decoder_blocks


def fuse_elementwise(model: PreTrainedModel, backend: str = "inductor") -> None:
    """Compile the norms and MLPs of a loaded model, in place; each compiles when it first runs.

        fuse_elementwise(load_model(source, "bfloat16", "cuda").model)

    Args:
        model: the model. backend: the compiler of torch; tests use a compiler that only records.
    """
    options: dict[str, Any] = {"dynamic": True, "backend": backend}
    if backend == "inductor":
        options["options"] = {"emulate_precision_casts": True}
    for module in fusible_modules(model):
        module.forward = torch.compile(module.forward, **options)


def fusible_modules(model: PreTrainedModel) -> list[nn.Module]:
    """The norms and MLPs of all blocks, and the norm behind the last block."""
    blocks = decoder_blocks(model)
    mlps = [part.module for block in blocks for part in block.parts if part.kind == "mlp"]
    norms = [module for name, module in model.named_modules() if name.endswith("norm")]
    return [*mlps, *norms]
