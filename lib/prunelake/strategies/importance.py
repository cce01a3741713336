"""Importance of a layer by the cosine between the residual stream without and with its output."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity
from transformers import PreTrainedModel

from prunelake.models.decoder_map import RemovableModule, attention_layers, removable_modules
from prunelake.models.precision import matmul_precision
from prunelake.spec import Unit


@torch.inference_mode()
def cosine_importance(
    model: PreTrainedModel, windows: Sequence[Sequence[int]], unit: Unit = "attention"
) -> list[float]:
    """1 - mean over tokens of the cosine of the residual stream without and with a unit's output.

    x is the stream in front of the block; a and m are the terms that its attention and its MLP add,
    behind a norm of their own in Gemma and OLMo2. The importance of an attention is
    1 - cos(x, x + a), of an MLP 1 - cos(x + a, x + a + m), of a block 1 - cos(x, x + a + m). One
    number for each layer, input first. Windows run one by one, and only sums are kept.
    Source: arXiv 2406.15786; for attention arXiv 2606.24970.
    """
    layers = attention_layers(model)
    sums = torch.zeros(len(layers), dtype=torch.float64)
    adding = removable_modules(model, "attention" if unit == "attention" else "block")
    with matmul_precision(model), ExitStack() as stack:
        for number, layer in enumerate(layers):
            stack.enter_context(
                _accumulate_cosines(layer.block, adding[number], unit, sums, number)
            )
        for window in windows:
            ids = torch.tensor([[*window]], device=model.device)
            model.base_model(input_ids=ids, use_cache=False)
    tokens = sum(len(window) for window in windows)
    return (1 - sums / tokens).tolist()


@contextmanager
def _accumulate_cosines(
    block: nn.Module, adding: Sequence[RemovableModule], unit: Unit, sums: Tensor, number: int
) -> Iterator[None]:
    """Add the cosines over the tokens of every pass to `sums[number]`."""
    x: list[Tensor] = []
    outputs: list[Tensor] = []
    added: list[Tensor] = []

    def enter(_: nn.Module, args: tuple[Any, ...]) -> None:
        x.append(args[0].float())

    def attended(_: nn.Module, __: Any, output: Any) -> None:
        answered(_, __, output[0])

    def answered(_: nn.Module, __: Any, output: Tensor) -> None:
        outputs.append(output)
        added.append(output)

    def normed(_: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        # If a norm gets the very output of a module, the block adds the norm's output instead.
        # (Llama has a norm of the same name that gets the sum, so the name decides nothing.)
        if args and outputs and args[0] is outputs[-1]:
            added[-1] = output

    def leave(*_: Any) -> None:
        terms = [term.float() for term in added]
        before = x[0] + terms[0] if unit == "mlp" else x[0]
        after = sum(terms, x[0])
        sums[number] += cosine_similarity(before, after, dim=-1).double().sum().cpu()
        for recorded in (x, outputs, added):
            recorded.clear()

    norms = [child for name, child in block.named_children() if "norm" in name]
    hooks = [
        block.register_forward_pre_hook(enter),
        *[
            part.module.register_forward_hook(attended if part.is_attention else answered)
            for part in adding
        ],
        *[norm.register_forward_hook(normed) for norm in norms],
        block.register_forward_hook(leave),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
