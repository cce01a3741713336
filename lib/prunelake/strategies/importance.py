"""Importance of a layer by the cosine between the residual stream without and with its output."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity
from transformers import PreTrainedModel

from prunelake.models.decoder.block_parts import BlockPart
from prunelake.models.decoder.calls import first_value, hidden_states
from prunelake.models.decoder.decoder_map import DecoderBlock, decoder_blocks, removable_parts
from prunelake.models.decoder.decoder_probe import probe_decoder
from prunelake.models.precision import matmul_precision
from prunelake.models.removal import without_parts
from prunelake.spec import Unit

ROUNDING = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""The largest difference between a block's output and the sum of its terms that is rounding, as a
share of the largest value."""


@torch.inference_mode()
def cosine_importance(
    model: PreTrainedModel, windows: Sequence[Sequence[int]], unit: Unit = "attention"
) -> list[float]:
    """1 - mean over tokens of the cosine of the residual stream without and with a unit's output.

    x is the stream in front of the block; a and m are the terms that its attention and its MLP add
    (in Gemma and OLMo2, after their own norms). The importance of an attention is
    1 - cos(x, x + a), of an MLP 1 - cos(x + a, x + a + m), of a block 1 - cos(x, x + a + m). The
    result has one number for each layer with this unit, input first. Windows run one by one, and
    only sums are kept. In general, the stream between the unit and the parts that run before it is
    compared with the stream behind the unit. If a block is not such a sum (it scales its terms, or
    has several streams), it runs again without the unit and the parts behind it. Source: arXiv
    2406.15786; for attention arXiv 2606.24970.
    """
    layers = removable_parts(model, unit)
    blocks = decoder_blocks(model)
    trunk = probe_decoder(model).trunk
    comparisons = [_BlockComparison(model, blocks[parts[0].block], parts) for parts in layers]
    with matmul_precision(model), ExitStack() as stack:
        for comparison in comparisons:
            stack.enter_context(comparison.accumulating())
        for window in windows:
            ids = torch.tensor([[*window]], device=model.device)
            for comparison in comparisons:
                comparison.tokens = len(window)
            trunk(input_ids=ids, use_cache=False)
    sums = torch.tensor([comparison.sum for comparison in comparisons], dtype=torch.float64)
    tokens = sum(len(window) for window in windows)
    return (1 - sums / tokens).tolist()


class _BlockComparison:
    """Compares the stream of a block without and with some of its parts.

    - `sum`: the sum of the cosines over all tokens so far.
    - `tokens`: the number of tokens of the current pass.
    """

    def __init__(
        self, model: PreTrainedModel, block: DecoderBlock, unit: Sequence[BlockPart]
    ) -> None:
        self.sum = 0.0
        self.tokens = 0
        self._model = model
        self._block = block
        self._names = {part.name for part in unit}
        self._x: list[Tensor] = []
        self._outputs: list[Tensor] = []
        self._terms: dict[str, Tensor] = {}
        self._is_sum: bool | None = None
        self._is_repeating = False

    @contextmanager
    def accumulating(self) -> Iterator[None]:
        """Add the cosines of every pass within the `with` block to `sum`."""
        block = self._block.module
        norms = [child for name, child in block.named_children() if "norm" in name]
        hooks = [
            block.register_forward_pre_hook(self._enter, with_kwargs=True),
            *[
                part.module.register_forward_hook(
                    lambda _, __, output, name=part.name: self._answered(name, output)
                )
                for part in self._block.parts
            ],
            *[norm.register_forward_hook(self._normed) for norm in norms],
            block.register_forward_hook(self._leave, with_kwargs=True),
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _enter(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._is_repeating:
            return
        for recorded in (self._x, self._outputs, self._terms):
            recorded.clear()
        self._x.append(hidden_states(args, kwargs))

    def _answered(self, name: str, output: Any) -> None:
        if self._is_repeating or not self._x:  # another block that shares the module is running
            return
        self._terms[name] = first_value(output)
        self._outputs.append(self._terms[name])

    def _normed(self, _: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        # If a norm gets the output of a module itself, the block adds the norm's output instead.
        # The norm's name does not tell: Llama has a norm of the same name that gets the sum.
        if not self._is_repeating and args and self._outputs and args[0] is self._outputs[-1]:
            self._terms[[*self._terms][-1]] = output

    def _leave(
        self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        if self._is_repeating:
            return
        if self._is_sum is None:
            self._is_sum = self._adds_up(first_value(output))
        before, after = self._summed() if self._is_sum else self._repeated(args, kwargs)
        cosines = cosine_similarity(before, after, dim=-1)
        self.sum += float(cosines.double().sum()) * (self.tokens / cosines.numel())
        self._x.clear()

    def _adds_up(self, output: Tensor) -> bool:
        """Whether the block's output is its input and the terms of its parts."""
        x = self._x[0]
        if any(term.shape != x.shape for term in self._terms.values()):
            return False
        total = sum((term.float() for term in self._terms.values()), x.float())
        tolerance = ROUNDING[x.dtype] * float(output.abs().max())
        return float((total - output.float()).abs().max()) <= tolerance

    def _stages(self) -> tuple[list[str], list[str]]:
        """The parts that run before the unit, and those that run behind its first part."""
        order = [*self._terms]
        first = min(n for n, name in enumerate(order) if name in self._names)
        return order[:first], [name for name in order[first:] if name not in self._names]

    def _summed(self) -> tuple[Tensor, Tensor]:
        """The stream in front of the unit and behind it, from the terms of the parts."""
        x = self._x[0].float()
        earlier, _ = self._stages()
        before = sum((self._terms[name].float() for name in earlier), x)
        own = [term.float() for name, term in self._terms.items() if name in self._names]
        return before, sum(own, before)

    def _repeated(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """The same streams: the block's outputs without later parts, without and with the unit."""
        _, later = self._stages()
        streams = []
        self._is_repeating = True
        try:
            for names in ({*later} | self._names, {*later}):
                parts = [part for part in self._block.parts if part.name in names]
                with without_parts(self._model, parts):
                    output = self._block.module(*args, **kwargs)
                streams.append((first_value(output)).float())
        finally:
            self._is_repeating = False
        return streams[0], streams[1]
