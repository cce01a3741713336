"""Delete experts: their weights, and the router's weights for them.

    with deleted_experts(model, [3, 11]):
        logits = model(input_ids=ids, use_cache=False).logits

A router that lacks experts (`experts.without_experts`) has to choose as if they had been deleted.
`check_routing` compares both on the model's own hidden states.
"""

import copy
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from prunelake.errors import UnsupportedModel, one_line
from prunelake.models.decoder.decoder_probe import PROBE_SHAPE
from prunelake.models.decoder.experts import (
    ExpertMixture,
    choosing,
    expert_mixtures,
    lacking_experts,
    without_experts,
)
from prunelake.models.decoder.text_model import spread_token_ids
from prunelake.models.levels import EXPERT_COUNT_NAMES

TOLERANCE = 1e-4
"""The largest difference of a routing weight that is rounding; the check computes in float32."""


@contextmanager
def deleted_experts(model: PreTrainedModel, numbers: Collection[int]) -> Iterator[list[nn.Module]]:
    """Run `model` without the weights of these experts; on exit it is whole again.

    The `with` block receives modules that hold the replaced weights, for instance to move them off
    a device.

    Raises:
        UnknownLayer, UnsupportedModel: as `experts.without_experts`; or blocks that would keep
            different numbers of experts.
    """
    with without_experts(model, numbers):
        mixtures = expert_mixtures(model)  # the numbers are right
    replaced: list[nn.Module] = []
    with ExitStack() as stack:
        for mixture, kept in zip(mixtures, _kept_experts(mixtures, numbers), strict=True):
            for module in _modules_with_experts(mixture):
                replaced.append(stack.enter_context(_reduced(module, mixture.count, kept)))
        yield replaced


def smaller_model(model: PreTrainedModel, numbers: Collection[int]) -> PreTrainedModel:
    """A model of its own, with a configuration of fewer experts, that never had these experts.

    The shapes of its weights show which of the model's weights have rows for experts.

    Raises:
        UnknownLayer, UnsupportedModel: as `deleted_experts`; or a configuration that does not say
            how many experts a block has.
    """
    with without_experts(model, numbers):
        mixtures = expert_mixtures(model)
    kept = _kept_experts(mixtures, numbers)
    config = copy.deepcopy(model.config)
    text = config.get_text_config()
    for name in EXPERT_COUNT_NAMES:
        if getattr(text, name, None) == mixtures[0].count:
            setattr(text, name, len(kept[0]))
    config.dtype = model.dtype
    smaller: PreTrainedModel = type(model)(config)
    paths = {id(module): name for name, module in model.named_modules()}
    shapes = {name: weight.shape for name, weight in smaller.state_dict().items()}
    weights = {}
    for name, weight in model.state_dict().items():
        for mixture, own in zip(mixtures, kept, strict=True):
            modules = (mixture.router, mixture.part.module)
            if not name.startswith(tuple(f"{paths[id(module)]}." for module in modules)):
                continue
            for dimension, sizes in enumerate(zip(weight.shape, shapes[name], strict=True)):
                if sizes == (mixture.count, len(own)):
                    weight = weight.index_select(dimension, own.to(weight.device))
        if weight.shape != shapes[name]:
            raise UnsupportedModel(
                f"{type(model).__name__}: a configuration with {len(kept[0])} experts gives {name} "
                f"the shape {tuple(shapes[name])}, and without the removed experts it has "
                f"{tuple(weight.shape)}; such a model cannot be saved"
            )
        weights[name] = weight
    smaller.load_state_dict(weights, strict=True)
    smaller.generation_config = model.generation_config
    nn.Module.to(smaller, model.device)
    smaller.eval().requires_grad_(False)
    return smaller


def _kept_experts(mixtures: Sequence[ExpertMixture], numbers: Collection[int]) -> list[Tensor]:
    """The experts that each block keeps."""
    kept = [(~own).nonzero()[:, 0] for own in lacking_experts(mixtures, [numbers])[0]]
    counts = sorted({len(own) for own in kept})
    if len(counts) > 1:
        raise UnsupportedModel(
            f"blocks would keep {' or '.join(map(str, counts))} experts; a model has the same "
            "number of experts in each block"
        )
    return kept


@torch.no_grad()
def check_routing(model: PreTrainedModel) -> None:
    """Check that each router chooses among the other experts as if the removed ones were deleted.

    Copies of the routers, in float32, get the hidden states of a pass of a few tokens: one copy
    lacks the outputs of half of the experts that can go, the other does not choose these experts.

    Raises:
        UnsupportedModel: as `expert_mixtures`; or a router that chooses otherwise.
    """
    mixtures = expert_mixtures(model)
    arguments: dict[int, tuple[tuple[Any, ...], dict[str, Any]]] = {}

    def record(block: int, _: nn.Module, args: Any, kwargs: Any) -> None:
        arguments[block] = args, kwargs

    with ExitStack() as stack:
        for mixture in mixtures:
            hook = mixture.router.register_forward_pre_hook(
                partial(record, mixture.part.block), with_kwargs=True
            )
            stack.callback(hook.remove)
        model(input_ids=spread_token_ids(model, PROBE_SHAPE), use_cache=False)
    for mixture in mixtures:
        try:
            is_right = _routes_as_deleted(mixture, *arguments[mixture.part.block])
            problem = "they choose differently from routers without the removed experts"
        except Exception as error:  # model code raises any type
            is_right, problem = False, f"{type(error).__name__}: {one_line(error)}"
        if not is_right:
            raise UnsupportedModel(
                f"{type(model).__name__}: experts cannot be removed from its routers "
                f"({type(mixture.router).__name__}): {problem}"
            )


def _routes_as_deleted(
    mixture: ExpertMixture, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> bool:
    count = mixture.count
    removable = count - mixture.chosen
    numbers = [*range(0, count, 2)][: (removable + 1) // 2]
    lacking = torch.zeros(1, 1, count, dtype=torch.bool)
    lacking[..., numbers] = True
    kept = (~lacking[0, 0]).nonzero()[:, 0]
    copied = copy.deepcopy(mixture.router).float()
    masked = ExpertMixture(mixture.part, copied, count, mixture.chosen)
    args = tuple(_float(value) for value in args)
    kwargs = {name: _float(value) for name, value in kwargs.items()}
    with choosing([masked], lacking):
        expected = copied(*args, **kwargs)
    with ExitStack() as stack:
        for module in copied.modules():
            stack.enter_context(_reduced(module, count, kept))
        found = copied(
            *(_of_kept(value, count, kept) for value in args),
            **{name: _of_kept(value, count, kept) for name, value in kwargs.items()},
        )
    return _agree(expected, found, count, kept)


def _agree(expected: Any, found: Any, count: int, kept: Tensor) -> bool:
    """Whether the outputs of a router agree with those of a router without the other experts."""
    if isinstance(expected, tuple | list) and not all(type(value) is int for value in expected):
        return all(_agree(a, b, count, kept) for a, b in zip(expected, found, strict=True))
    expected, found = torch.as_tensor(expected), torch.as_tensor(found)
    kept = kept.to(expected.device)
    if expected.is_floating_point():
        if expected.shape != found.shape:
            expected = expected[..., kept]
        return torch.allclose(expected, found, atol=TOLERANCE, rtol=TOLERANCE)
    if expected.shape != found.shape:  # tokens of each expert
        return torch.equal(expected[kept], found)
    # Numbers of experts, or else positions of tokens.
    is_number = found.max() < len(kept) and torch.equal(kept[found], expected)
    return is_number or torch.equal(found, expected)


def _float(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value


def _of_kept(value: Any, count: int, kept: Tensor) -> Any:
    """An argument of a router that has a number for each expert, without the other experts."""
    if isinstance(value, Tensor) and value.shape == (count,):
        return value[kept.to(value.device)]
    return value


def _modules_with_experts(mixture: ExpertMixture) -> list[nn.Module]:
    """The modules whose weights belong to experts: the router's, and those of the MLP."""
    found = {id(module): module for module in mixture.router.modules()}
    for name, module in mixture.part.module.named_modules():
        if "shared" not in name and not isinstance(module, nn.Linear):
            found[id(module)] = module
    return [*found.values()]


@contextmanager
def _reduced(module: nn.Module, count: int, kept: Tensor) -> Iterator[nn.Module]:
    """A module without the rows of other experts, in its own tensors and its own numbers.

    The `with` block receives a module that holds the replaced weights.
    """
    whole = nn.Module()
    numbers = {
        name: value
        for name, value in vars(module).items()
        if value == count and type(value) is int and "expert" in name
    }
    tensors = {
        name: tensor
        for named in (module.named_parameters, module.named_buffers)
        for name, tensor in named(recurse=False)
        if tensor.ndim and (len(tensor) == count or tensor.shape == (1, count))
    }
    try:
        for name, tensor in tensors.items():
            whole.register_parameter(name, tensor if isinstance(tensor, nn.Parameter) else None)
            dimension = 0 if len(tensor) == count else 1
            rows = tensor.data.index_select(dimension, kept.to(tensor.device))
            is_parameter = isinstance(tensor, nn.Parameter)
            setattr(module, name, nn.Parameter(rows, False) if is_parameter else rows)
        for name in numbers:
            setattr(module, name, len(kept))
        yield whole
    finally:
        for name, value in {**tensors, **numbers}.items():
            setattr(module, name, value)
