"""Run a model with modules of its blocks removed, or with zeros in their place."""

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from prunelake.errors import UnsupportedModel
from prunelake.models.decoder.block_parts import BlockPart
from prunelake.models.decoder.calls import (
    Forward,
    OutputForm,
    first_value,
    hidden_states,
    replaced_forward,
    with_first_value,
)
from prunelake.models.decoder.decoder_map import decoder_blocks
from prunelake.models.decoder.decoder_probe import PROBE_SHAPE, probe_decoder
from prunelake.models.decoder.experts import without_experts
from prunelake.models.decoder.placeholders import check_not_shared, replace_with_placeholders
from prunelake.models.decoder.selection import (
    blocks_without_norms,
    selected_absent_parts,
    selected_parts,
)
from prunelake.models.decoder.text_model import spread_token_ids
from prunelake.models.expert_deletion import deleted_experts
from prunelake.spec import Unit


@contextmanager
def removed(
    model: PreTrainedModel, layers: Collection[int], unit: Unit = "attention"
) -> Iterator[None]:
    """Run `model` without a unit of `layers`: the attention, the MLP, or both; or without experts.

        with removed(model, [3, 5], "attention"):
            logits = model(input_ids=ids, use_cache=False).logits

    The layers of the unit `expert` are experts, numbered as in `experts`.
    The removed modules return zeros; on exit the model is whole again, also after an error. Not for
    decoding with a cache, since a cache without its first layer reports length 0: see `detached`.

    Raises:
        UnknownLayer: a layer that the model does not have.
        UnsupportedModel: MLPs that could not be found.
    """
    if unit == "expert":
        with without_experts(model, layers):
            yield
        return
    with without_parts(model, selected_parts(model, layers, unit)):
        yield


@contextmanager
def without_parts(model: PreTrainedModel, parts: Collection[BlockPart]) -> Iterator[None]:
    """Run `model` while these parts add nothing; on exit they are as before."""
    forms = probe_decoder(model).forms
    running = _RunningBlock()
    with ExitStack() as stack:
        stack.enter_context(running.followed(model))
        for part in parts:
            without = partial(_without, part, forms[part.block, part.name], running)
            stack.enter_context(replaced_forward(part.module, without))
        yield


@contextmanager
def detached(
    model: PreTrainedModel, layers: Collection[int], unit: Unit = "attention"
) -> Iterator[list[nn.Module]]:
    """Run `model` with a unit of `layers` really absent, also when it decodes with a cache.

    The detached modules are neither computed nor cached, and their weights are not among the
    model's parameters. The `with` block receives them, for instance to move them off a device. On
    exit the model is whole again, also after an error.

    Raises:
        UnknownLayer, UnsupportedModel: as `removed`.
    """
    if unit == "expert":
        with deleted_experts(model, layers) as replaced:
            yield replaced
        return
    absent = selected_absent_parts(model, layers, unit)
    replacements = replace_with_placeholders(model, absent, blocks_without_norms(model, absent))
    try:
        yield [replacement.module for replacement in replacements]
    finally:
        for replacement in replacements:
            replacement.undo()


def zero_out(model: PreTrainedModel, layers: Collection[int], unit: Unit = "attention") -> None:
    """Set the output projections of a unit of `layers` to zero, permanently.

    Raises:
        UnknownLayer, UnsupportedModel: as `removed`; or no weights that could be zero. The model is
            unchanged then.
    """
    parts = selected_parts(model, layers, unit)
    check_not_shared(decoder_blocks(model), selected_absent_parts(model, layers, unit))
    before = {id(p): (p, p.data.clone()) for part in parts for p in part.output_parameters()}
    for parameter, _ in before.values():
        parameter.data.zero_()
    for part in parts_that_add(model, parts):
        for parameter, weights in before.values():
            parameter.data.copy_(weights)
        raise UnsupportedModel(
            f"{type(model).__name__}: {part.name} of block {part.block} "
            f"({type(part.module).__name__}) does not add zero with zero weights; save a compact "
            "checkpoint instead"
        )


@torch.inference_mode()
def parts_that_add(model: PreTrainedModel, parts: Collection[BlockPart]) -> list[BlockPart]:
    """The given parts that add something to the stream in a pass of a few tokens."""
    found: list[BlockPart] = []
    running = _RunningBlock()

    def look(
        part: BlockPart, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any
    ) -> None:
        if running.position != part.block:
            return
        first = first_value(out)
        form = OutputForm(None, first.shape[-1], can_skip=False)
        if not torch.equal(first, neutral_output(part, form, module.forward, args, kwargs, first)):
            found.append(part)

    with ExitStack() as stack:
        stack.enter_context(running.followed(model))
        for part in parts:
            hook = part.module.register_forward_hook(partial(look, part), with_kwargs=True)
            stack.callback(hook.remove)
        model(input_ids=spread_token_ids(model, PROBE_SHAPE), use_cache=False)
    return found


class _RunningBlock:
    """The position of the block that a model runs."""

    def __init__(self) -> None:
        self.position = -1

    @contextmanager
    def followed(self, model: PreTrainedModel) -> Iterator[None]:
        """Keep `position` up to date within the `with` block."""

        def enter(position: int) -> None:
            self.position = position

        with ExitStack() as stack:
            for position, block in enumerate(decoder_blocks(model)):
                hook = block.module.register_forward_pre_hook(lambda *_, n=position: enter(n))
                stack.callback(hook.remove)
            yield


def _without(
    part: BlockPart, form: OutputForm, running: _RunningBlock, forward: Forward
) -> Forward:
    """A forward that adds nothing while the part's own block runs."""

    def add_nothing(*args: Any, **kwargs: Any) -> Any:
        if running.position != part.block:  # another block that shares the module
            return forward(*args, **kwargs)
        if form.can_skip:
            return form.wrap(neutral_output(part, form, forward, args, kwargs))
        output = forward(*args, **kwargs)
        first = first_value(output)
        return with_first_value(output, neutral_output(part, form, forward, args, kwargs, first))

    return add_nothing


def neutral_output(
    part: BlockPart,
    form: OutputForm,
    forward: Forward,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    like: Tensor | None = None,
) -> Tensor:
    """The output of a part that adds nothing: zeros, or the residual that the part would add to.

    It has the shape of `like`, by default that of the hidden states with the part's width.
    """
    if part.adds_residual:
        residual: Tensor = signature(forward).bind(*args, **kwargs).arguments["residual"]
        return residual
    if like is not None:
        return torch.zeros_like(like)
    hidden = hidden_states(args, kwargs)
    return hidden.new_zeros((*hidden.shape[:-1], form.width))
