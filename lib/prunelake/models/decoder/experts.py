"""The experts of a decoder's blocks, and passes in which routers choose among fewer of them.

    with without_experts(model, [3, 11]):
        logits = model(input_ids=ids, use_cache=False).logits

Experts have numbers: block by block, only blocks with experts counted, so that with 8 experts in a
block, expert 11 is expert 3 of the second block with experts. A router never chooses a removed
expert: the expert's logit is minus infinity, and so is its score where the router chooses. The
other experts get the weights that they would have if the removed experts had been deleted.
`routing_check` compares both.
"""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

from prunelake.errors import UnknownLayer, UnsupportedModel
from prunelake.models.decoder.block_parts import BlockPart
from prunelake.models.decoder.calls import Forward, replaced_forward
from prunelake.models.decoder.decoder_map import DecoderBlock, decoder_blocks
from prunelake.models.decoder.text_model import text_config

ROUTER_NAMES = re.compile(r"gate|router")
CHOSEN_COUNT_NAMES = ("top_k", "num_experts_per_tok", "topk", "moe_topk", "top_k_experts")
GROUP_COUNT_NAMES = ("num_group", "n_group", "num_expert_group")

TOP_K = (torch.topk, torch.Tensor.topk)


@dataclass(frozen=True)
class ExpertMixture:
    """The experts of a block.

    - `part`: the MLP of experts.
    - `router`: the module that chooses experts for each token.
    - `count`: the number of experts.
    - `chosen`: the number of experts that the router chooses for a token.
    """

    part: BlockPart
    router: nn.Module
    count: int
    chosen: int

    @property
    def device(self) -> torch.device:
        """The device of the router."""
        return next(self.router.parameters()).device


def expert_mixtures(model: PreTrainedModel) -> tuple[ExpertMixture, ...]:
    """The experts of each block that has experts, input first.

    Raises:
        UnsupportedModel: as `decoder_blocks`; no experts, or experts that cannot be removed one by
            one; the message says why.
    """
    found = [
        _mixture(model, block, part)
        for block in decoder_blocks(model)
        for part in block.parts
        if part.kind == "experts"
    ]
    if not found:
        raise UnsupportedModel(f"{type(model).__name__} has no experts")
    sizes = sorted({(mixture.count, mixture.chosen) for mixture in found})
    if len(sizes) > 1:
        listed = ", ".join(f"{chosen} of {count}" for count, chosen in sizes)
        raise UnsupportedModel(
            f"{type(model).__name__}: its routers choose {listed} experts; the unit expert needs "
            "the same numbers in each block"
        )
    return tuple(found)


@contextmanager
def without_experts(model: PreTrainedModel, numbers: Collection[int]) -> Iterator[None]:
    """Run `model` while its routers choose among the other experts; then it is as before.

    Raises:
        UnknownLayer: an expert that the model does not have, or a block that keeps fewer experts
            than its router chooses.
        UnsupportedModel: as `expert_mixtures`.
    """
    mixtures = expert_mixtures(model)
    lacking = lacking_experts(mixtures, [numbers])
    for mixture, kept in zip(mixtures, (~lacking).sum(-1)[0].tolist(), strict=True):
        if kept < mixture.chosen:
            raise UnknownLayer(
                f"block {mixture.part.block} keeps {kept} of its {mixture.count} experts, and its "
                f"router chooses {mixture.chosen} for each token"
            )
    with choosing(mixtures, lacking):
        yield


@contextmanager
def choosing(mixtures: Sequence[ExpertMixture], lacking: Tensor) -> Iterator[None]:
    """Let routers choose no lacking expert.

    Args:
        mixtures: the experts of all blocks.
        lacking: [rows, mixtures, experts], which experts each row of a batch lacks; one row stands
            for all rows.
    """
    with ExitStack() as stack:
        for number, mixture in enumerate(mixtures):
            own = lacking[:, number]
            if own.any():
                wrap = partial(_choosing, mixture, own.to(mixture.device))
                stack.enter_context(replaced_forward(mixture.router, wrap))
        yield


def lacking_experts(mixtures: Sequence[ExpertMixture], levels: Sequence[Collection[int]]) -> Tensor:
    """Which experts each level lacks, by their numbers: booleans [levels, mixtures, experts].

    Raises:
        UnknownLayer: an expert that the model does not have.
    """
    total = len(mixtures) * mixtures[0].count
    lacking = torch.zeros(len(levels), total, dtype=torch.bool)
    for level, numbers in enumerate(levels):
        for number in numbers:
            if not 0 <= number < total:
                raise UnknownLayer(f"expert {number}: the model has experts 0 to {total - 1}")
        lacking[level, [*numbers]] = True
    return lacking.view(len(levels), len(mixtures), -1)


@contextmanager
def choices(mixture: ExpertMixture, take: Callable[[Tensor], None]) -> Iterator[None]:
    """Hand the numbers [tokens, chosen] of the experts that each pass chooses to `take`."""

    def wrap(forward: Forward) -> Forward:
        def choose(*args: Any, **kwargs: Any) -> Any:
            with _Choosing(mixture, None) as mode:
                output = forward(*args, **kwargs)
            take(_chosen_of(mixture, mode, output))
            return output

        return choose

    with replaced_forward(mixture.router, wrap):
        yield


def _chosen_of(mixture: ExpertMixture, mode: "_Choosing", output: Any) -> Tensor:
    values = [mode.chosen, *(output if isinstance(output, tuple | list) else [output])]
    for value in values:
        is_whole = isinstance(value, Tensor) and not value.is_floating_point()
        if is_whole and value.ndim == 2 and value.shape[-1] == mixture.chosen:
            numbers: Tensor = value
            return numbers
    raise UnsupportedModel(
        f"{type(mixture.router).__name__} of block {mixture.part.block} does not show which "
        "experts it chooses"
    )


def _choosing(mixture: ExpertMixture, lacking: Tensor, forward: Forward) -> Forward:
    def choose(*args: Any, **kwargs: Any) -> Any:
        with _Choosing(mixture, lacking):
            return forward(*args, **kwargs)

    return choose


class _Choosing(TorchFunctionMode):
    """Sets the logits of lacking experts, and the scores that top-k reads, to minus infinity.

    Both are needed: a router may add a bias to its scores before it chooses. `chosen` holds the
    experts of the last choice.
    """

    def __init__(self, mixture: ExpertMixture, lacking: Tensor | None) -> None:
        super().__init__()
        self.chosen: Tensor | None = None
        self._mixture = mixture
        self._lacking = lacking

    def __torch_function__(
        self,
        func: Callable[..., Any],
        _types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in TOP_K and args and args[0].shape[-1] == self._mixture.count:
            result = func(self._without(args[0]), *args[1:], **kwargs)
            self.chosen = result[1]
            return result
        result = func(*args, **kwargs)
        if func is functional.linear and result.shape[-1] == self._mixture.count:
            return self._without(result)
        return result

    def _without(self, scores: Tensor) -> Tensor:
        if self._lacking is None:
            return scores
        rows, count = self._lacking.shape
        by_row = scores.reshape(rows, -1, count)
        return by_row.masked_fill(self._lacking[:, None], -torch.inf).view(scores.shape)


def _mixture(model: PreTrainedModel, block: DecoderBlock, part: BlockPart) -> ExpertMixture:
    def refused(reason: str) -> UnsupportedModel:
        return UnsupportedModel(
            f"{type(model).__name__}: the experts of block {block.index} "
            f"({type(part.module).__name__}) cannot be removed one by one: {reason}"
        )

    routers = [
        child
        for parent in (part.module, block.module)
        for name, child in parent.named_children()
        if ROUTER_NAMES.fullmatch(name)
    ]
    if not routers:
        raise refused("they have no router")
    router = routers[0]
    counts = {len(tensor) for tensor in expert_tensors(part.module)}
    if len(counts) != 1:
        raise refused("their weights are not stacked, one expert after the other")
    (count,) = counts
    if "input_ids" in signature(router.forward).parameters:
        raise refused("the router chooses by token ids")
    if not any(weight.ndim == 2 and len(weight) == count for weight in router.parameters()):
        raise refused(f"the router does not have one output for each of the {count} experts")
    holders = [router, part.module, text_config(model)]
    groups = _first_number(holders[:2], GROUP_COUNT_NAMES)
    if groups is not None and groups > 1:
        raise refused(f"the router first chooses among {groups} groups of experts of equal size")
    chosen = _first_number(holders, CHOSEN_COUNT_NAMES)
    if chosen is None:
        raise refused("the number of experts for each token is unknown")
    return ExpertMixture(part, router, count, chosen)


def expert_tensors(module: nn.Module) -> list[Tensor]:
    """The weights [experts, ...] of an MLP of experts, without experts that every token takes."""
    return [
        weight
        for name, weight in module.named_parameters()
        if weight.ndim == 3 and "shared" not in name
    ]


def _first_number(holders: Sequence[Any], names: Sequence[str]) -> int | None:
    found = (getattr(holder, name, None) for holder in holders for name in names)
    return next((value for value in found if type(value) is int), None)
