"""The blocks that pass their input on if their parts add zero and their norms are gone."""

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from prunelake.models.decoder.block_parts import BlockPart, block_norms
from prunelake.models.decoder.calls import first_value, hidden_states, with_first_value
from prunelake.models.decoder.decoder_map import DecoderBlock


def plain_blocks(
    model: PreTrainedModel, blocks: tuple[DecoderBlock, ...], ids: Tensor
) -> frozenset[int]:
    """The blocks whose output is their input while their parts add zero, with and without norms."""
    unchanged: list[set[int]] = [set(), set()]
    inputs: list[Tensor] = []

    def enter(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        inputs[:] = [hidden_states(args, kwargs)]

    def silence(part: BlockPart, args: tuple[Any, ...], output: Any) -> Any:
        first = args[1] if part.adds_residual else torch.zeros_like(first_value(output))
        return with_first_value(output, first)

    for keeps_norms, found in zip((True, False), unchanged, strict=True):

        def leave(position: int, output: Any, found: set[int] = found) -> None:
            if torch.equal(first_value(output), inputs[0]):
                found.add(position)

        with ExitStack() as stack:
            for position, block in enumerate(blocks):
                module = block.module
                hooks = [
                    module.register_forward_pre_hook(enter, with_kwargs=True),
                    module.register_forward_hook(lambda *a, n=position, f=leave: f(n, a[-1])),
                    *[
                        part.module.register_forward_hook(
                            lambda _, args, output, p=part: silence(p, args, output)
                        )
                        for part in block.parts
                    ],
                ]
                for hook in hooks:
                    stack.callback(hook.remove)
                for name, norm in ({} if keeps_norms else block_norms(module)).items():
                    stack.callback(setattr, module, name, norm)
                    setattr(module, name, nn.Identity())
            try:
                model(input_ids=ids, use_cache=False)
            except Exception:  # a model that reads its norms
                return frozenset()
    return frozenset(unchanged[0] & unchanged[1])
