"""The order in which the experts of each block are removed.

    order = expert_order(model, Strategy(name="use", unit="expert"), windows)

Level k lacks k experts of each block, so an order is a sequence of rounds: the first expert of
each block, then the second expert of each block, and so on. Experts are numbered as in `experts`.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from prunelake.inference.nested import Progress
from prunelake.models.decoder.decoder_probe import probe_decoder
from prunelake.models.decoder.experts import choices, expert_mixtures, without_experts
from prunelake.models.decoder.level_range import level_range
from prunelake.models.precision import matmul_precision
from prunelake.schema.arrays import FloatArray
from prunelake.spec import Strategy


@torch.inference_mode()
def expert_use(model: PreTrainedModel, windows: Sequence[Sequence[int]]) -> FloatArray:
    """The use that routers make of each expert: [blocks with experts, experts].

    The use of an expert is the share of the tokens of calibration text for which its router chooses
    it, from 0 to 1. The shares of a block add up to the number of experts that its router chooses.

    Raises:
        UnsupportedModel: as `experts.expert_mixtures`; or a router that does not show its choice.
    """
    mixtures = expert_mixtures(model)
    counts = np.zeros((len(mixtures), mixtures[0].count))

    def count(row: int, chosen: Tensor) -> None:
        counts[row] += np.bincount(chosen.flatten().cpu().numpy(), minlength=counts.shape[1])

    trunk = probe_decoder(model).trunk
    with matmul_precision(model), ExitStack() as stack:
        for row, mixture in enumerate(mixtures):
            stack.enter_context(choices(mixture, partial(count, row)))
        for window in windows:
            trunk(input_ids=torch.tensor([[*window]], device=model.device), use_cache=False)
    return counts / sum(len(window) for window in windows)


def expert_order(
    model: PreTrainedModel,
    strategy: Strategy,
    windows: Sequence[Sequence[int]],
    depth: int | None = None,
    progress: Progress | None = None,
) -> tuple[tuple[int, ...], tuple[float, ...], int]:
    """All experts, first removed first; the importance of each; and the number of passes.

    - `use`: the `expert_use` of the whole model, least first;
    - `iterative`: the `expert_use` of the model without the experts removed so far;
    - `random`: a uniform draw, lowest first;
    - `last`: the number of experts behind an expert, lowest first.

    If experts of a block are equally important, the expert with the lower number is removed first.

    Args:
        model: it is used, never changed.
        strategy: its name and its seed.
        windows: token ids of calibration text, for `use` and `iterative`.
        depth: the deepest level of the sweep; `iterative` stops there.
        progress: takes the numbers of finished and of all steps of `iterative`.
    """
    known = level_range(model, "expert")
    shape = known.parts_per_level, known.layer_count
    passes = 1
    if strategy.name == "random":
        importance = np.random.default_rng(strategy.seed).random(shape)
        passes = 0
    elif strategy.name == "last":
        importance = np.broadcast_to(np.arange(shape[1] - 1.0, -1.0, -1.0), shape)
        passes = 0
    elif strategy.name == "use":
        importance = expert_use(model, windows)
    else:
        passes = min(max(depth or known.deepest, 1), known.deepest)
        return *_iterative_order(model, windows, shape, passes, progress), passes
    ranked = np.argsort(importance, axis=1, kind="stable")
    return *_in_rounds(ranked, importance), passes


def _iterative_order(
    model: PreTrainedModel,
    windows: Sequence[Sequence[int]],
    shape: tuple[int, int],
    steps: int,
    progress: Progress | None,
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Remove the least used expert of each block, measure again; the others follow by their use."""
    importance = np.zeros(shape)
    ranked = np.empty((shape[0], 0), dtype=np.int64)
    rows = np.arange(shape[0])[:, None]
    for step in range(steps):
        removed = (rows * shape[1] + ranked).ravel().tolist()
        with without_experts(model, removed):
            use = expert_use(model, windows)
        is_left = np.ones(shape, dtype=bool)
        is_left[rows, ranked] = False
        importance[is_left] = use[is_left]
        order = np.argsort(np.where(is_left, use, np.inf), axis=1, kind="stable")
        ranked = np.concatenate([ranked, order[:, :1]], axis=1)
        if progress:
            progress(step + 1, steps)
    left = order[:, 1 : shape[1] - steps + 1]
    return _in_rounds(np.concatenate([ranked, left], axis=1), importance)


def _in_rounds(
    ranked: NDArray[np.int64], importance: FloatArray
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """The order and the importance of all experts.

    Args:
        ranked: the experts of each block, first removed first: [blocks, experts].
        importance: their importance, by number: [blocks, experts].
    """
    numbers = np.arange(len(ranked))[:, None] * ranked.shape[1] + ranked
    return tuple(numbers.T.ravel().tolist()), tuple(importance.ravel().tolist())
