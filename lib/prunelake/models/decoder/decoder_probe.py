"""What a pass of a few tokens shows about a decoder: which module ends in its last hidden states,
and in which form each part returns its output.

    probe = probe_decoder(model)
    logits = apply_lm_head(model, hidden)
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from prunelake.errors import UnsupportedModel, one_line
from prunelake.models.decoder.block_parts import BlockPart
from prunelake.models.decoder.calls import (
    OutputForm,
    first_value,
    hidden_states,
    replaced_forward,
)
from prunelake.models.decoder.decoder_map import DecoderBlock, decoder_blocks
from prunelake.models.decoder.plain_blocks import plain_blocks
from prunelake.models.decoder.text_model import text_config

PROBE_SHAPE = (2, 5)
"""Rows and tokens of a probe."""

OTHER_ROW_COUNT = 3
"""The rows of a second pass: a tensor whose size differs between the passes is made of rows."""


@dataclass
class DecoderProbe:
    """What a pass showed.

    - `trunk`: the module that turns tokens into the last hidden states.
    - `row_dimension`: the dimension of the hidden states, in front of a block, that counts rows.
    - `forms`: the form of each part's output, by block and name.
    - `row_factors`: the entries for each row in the first dimension of the arguments of blocks and
      parts, by their name or place; 0 if an argument is not made of rows.
    - `plain_blocks`: the blocks that pass their input on without their parts and norms.
    """

    trunk: nn.Module
    row_dimension: int = 0
    forms: dict[tuple[int, str], OutputForm] = field(default_factory=dict)
    row_factors: dict[str, int] = field(default_factory=dict)
    plain_blocks: frozenset[int] = frozenset()


_probes: WeakKeyDictionary[PreTrainedModel, DecoderProbe] = WeakKeyDictionary()


def probe_decoder(model: PreTrainedModel, *, again: bool = False) -> DecoderProbe:
    """What a pass of a few tokens shows; a model runs once for it.

    Args:
        model: it is whole: no part of it is removed.
        again: run the pass also if the model was probed before.

    Raises:
        UnsupportedModel: the model does not compute as its map says.
    """
    if again or model not in _probes:
        _probes[model] = _probe(model)
    return _probes[model]


def apply_lm_head(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """Logits [..., vocabulary] from the last hidden states [..., width], as the model makes them.

    The model's own code runs behind its last block: output embedding, scale, cap. The logits are in
    the model's number format, which is precise enough to store logits, but not to sum them: convert
    them to float32 first.
    """
    return _apply_lm_head(model, probe_decoder(model).trunk, hidden)


def _apply_lm_head(model: PreTrainedModel, trunk: nn.Module, hidden: Tensor) -> Tensor:
    states = hidden.reshape(1, -1, hidden.shape[-1])
    ids = torch.zeros(states.shape[:2], dtype=torch.long, device=states.device)
    with replaced_forward(trunk, lambda _: lambda *_, **__: _LastHiddenStates(states)):
        logits: Tensor = model(input_ids=ids, use_cache=False).logits
    return logits.view(*hidden.shape[:-1], -1)


class _LastHiddenStates:
    """The output of a trunk, of which only the last hidden states are known."""

    def __init__(self, states: Tensor) -> None:
        self.last_hidden_state = states

    def __getitem__(self, index: int) -> Tensor:
        return (self.last_hidden_state,)[index]

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


def cache_argument(output: Any) -> dict[str, Any]:
    """The cache of an output, under the name by which the model takes it; empty without one."""
    names = ("past_key_values", "cache_params")
    found = {name: getattr(output, name, None) for name in names}
    return {name: cache for name, cache in found.items() if cache is not None}


@torch.inference_mode()
def _probe(model: PreTrainedModel) -> DecoderProbe:
    name = type(model).__name__
    blocks = decoder_blocks(model)
    recorder = _Recorder()
    rows, tokens = PROBE_SHAPE
    # The first ids of a vocabulary seldom mean images, which a text does not have.
    vocabulary: int = text_config(model).vocab_size
    count = OTHER_ROW_COUNT * tokens
    ids = (torch.arange(3, 3 + count, device=model.device) % vocabulary).view(-1, tokens)
    wider = _Recorder()
    try:
        with recorder.watching(model, blocks):
            logits = model(input_ids=ids[:rows], use_cache=False).logits.float()
        with wider.watching(model, blocks):
            model(input_ids=ids, use_cache=False)
    except Exception as error:  # model code raises any type
        raise UnsupportedModel(
            f"{name} is not supported: it does not run on {tokens} tokens of text "
            f"({type(error).__name__}: {one_line(error)})"
        ) from error
    expected = [(block, part.name) for block, own in enumerate(blocks) for part in own.parts]
    if sorted(recorder.calls) != sorted(expected) or recorder.blocks != [*range(len(blocks))]:
        wrong = sorted({*recorder.calls} ^ {*expected})
        where = f": look at {wrong[0][1]} of block {wrong[0][0]}" if wrong else ""
        raise UnsupportedModel(
            f"{name} is not supported: its blocks do not call their attention and MLP once, in "
            f"order{where}"
        )
    for trunk, states in recorder.trunks:
        try:
            again = _apply_lm_head(model, trunk, states).float()
        except Exception:  # a module in front of the trunk's end; try the next
            continue
        if again.shape == logits.shape and torch.allclose(
            again,
            logits,
            atol=1e-3,
            rtol=1e-3,
            equal_nan=True,  # NestedModel refuses them, and names the prompt
        ):
            factors = _row_factors(recorder.sizes, wider.sizes)
            plain = plain_blocks(model, blocks, ids)
            return DecoderProbe(trunk, recorder.row_dimension, recorder.forms, factors, plain)
    raise UnsupportedModel(
        f"{name} is not supported: its logits are not made from its last hidden states alone"
    )


class _Recorder:
    """Records the calls of a pass: blocks, parts and their outputs, trunks and their states."""

    def __init__(self) -> None:
        self.blocks: list[int] = []
        self.calls: list[tuple[int, str]] = []
        self.forms: dict[tuple[int, str], OutputForm] = {}
        self.trunks: list[tuple[nn.Module, Tensor]] = []
        self.row_dimension = 0
        self.sizes: dict[str, int] = {}

    @contextmanager
    def watching(self, model: PreTrainedModel, blocks: tuple[DecoderBlock, ...]) -> Iterator[None]:
        """Record the calls of the model's modules within the `with` block."""
        in_blocks = {id(module) for block in blocks for module in block.module.modules()}
        hooks = []
        with ExitStack() as stack:
            for number, block in enumerate(blocks):
                hooks.append(
                    block.module.register_forward_pre_hook(
                        lambda _, args, kwargs, n=number: self._enter(n, args, kwargs),
                        with_kwargs=True,
                    )
                )
                hooks += [
                    part.module.register_forward_hook(
                        lambda _, args, kwargs, output, p=part: self._called(
                            p, args, kwargs, output
                        ),
                        with_kwargs=True,
                    )
                    for part in block.parts
                ]
            hooks += [
                module.register_forward_hook(self._left)
                for module in model.modules()
                if module is not model and id(module) not in in_blocks
            ]
            for hook in hooks:
                stack.callback(hook.remove)
            yield

    def _enter(self, block: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        shape = hidden_states(args, kwargs).shape
        self.row_dimension = next((n for n in (0, 1) if shape[n] == PROBE_SHAPE[0]), 0)
        self.blocks.append(block)
        self._measure(args, kwargs)

    def _called(
        self, part: BlockPart, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        # A module that several blocks share is watched once for each of them.
        if part.block != self.blocks[-1]:
            return
        self.calls.append((part.block, part.name))
        self._measure(args, kwargs)
        self.forms[part.block, part.name] = _output_form(part, hidden_states(args, kwargs), output)

    def _measure(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for name, value in [*((str(n), value) for n, value in enumerate(args)), *kwargs.items()]:
            tensor = value[0] if isinstance(value, tuple) and value else value
            if isinstance(tensor, Tensor) and tensor.ndim >= 2:
                self.sizes[name] = tensor.shape[0]

    def _left(self, module: nn.Module, _: Any, output: Any) -> None:
        states = getattr(output, "last_hidden_state", None)
        if isinstance(states, Tensor):
            self.trunks.insert(0, (module, states))  # the outermost module is the last to return


def _row_factors(sizes: dict[str, int], wider: dict[str, int]) -> dict[str, int]:
    factors = {}
    for name, size in sizes.items():
        if size == wider.get(name) == 1:  # it has rows as soon as rows have positions of their own
            continue
        is_by_row = wider.get(name) == size // PROBE_SHAPE[0] * OTHER_ROW_COUNT
        factors[name] = size // PROBE_SHAPE[0] if is_by_row else 0
    return factors


def _output_form(part: BlockPart, hidden: Tensor, output: Any) -> OutputForm:
    first = first_value(output)
    further = output[1:] if isinstance(output, tuple | list) else ()
    is_whole = first.ndim == 3 and first.shape[:2] == PROBE_SHAPE == hidden.shape[:2]
    is_needed = any(isinstance(value, Tensor) and not _is_droppable(value) for value in further)
    return OutputForm(
        len(further) if isinstance(output, tuple | list) else None,
        first.shape[-1],
        is_whole and not is_needed and not part.is_read_later and not isinstance(output, list),
        isinstance(output, list),
    )


def _is_droppable(value: Tensor) -> bool:
    """Whether a further output is a report that no later module reads: attention weights."""
    tokens = PROBE_SHAPE[1]
    return value.ndim == 4 and value.shape[-2:] == (tokens, tokens)
