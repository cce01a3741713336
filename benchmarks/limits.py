"""The speed that the machine and the counted layer passes allow, and the speed of PruneLake."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.subject import BenchmarkCase, Explained, explain, now
from prunelake.inference.prefix_tree import ScoringQuery
from prunelake.models.precision import matmul_precision as in_precision_of

Shape = tuple[int, int, int]
"""Rows, inner and outer width of a matrix product."""

SIZES_TIMED = 4
"""The number of row counts at which a product is timed, for each pair of widths."""

REPEATS = 5
MASKS = 64


class Products(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own hook
    """Counts the matrix products of linear layers by shape, without those inside attention."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own
        self.count: Counter[Shape] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = None
        if func is torch.ops.aten.mm.default:
            found = args[0], args[1].shape[1]
        elif func is torch.ops.aten.addmm.default:
            found = args[1], args[2].shape[1]
        elif func is torch.ops.aten.linear.default:
            found = args[0], args[1].shape[0]
        if found:
            states, width = found
            inner = states.shape[-1]
            self.count[states.numel() // inner, inner, width] += 1
        return func(*args, **(kwargs or {}))


def flops(shape: Shape) -> int:
    return 2 * shape[0] * shape[1] * shape[2]


def plain_rate(products: Counter[Shape], dtype: torch.dtype, device: torch.device) -> float:
    """FLOP/s of `torch.matmul` over the same products: its harmonic mean, weighted by FLOPs.

    For each pair of widths, it is timed at row counts that are spread evenly over the FLOPs.
    """
    by_width: dict[tuple[int, int], Counter[int]] = defaultdict(Counter)
    for (rows, inner, outer), count in products.items():
        by_width[inner, outer][rows] += count
    seconds = 0.0
    for (inner, outer), sizes in by_width.items():
        ordered = sorted(sizes)
        work = np.cumsum([flops((rows, inner, outer)) * sizes[rows] for rows in ordered])
        wanted = (np.arange(SIZES_TIMED) + 0.5) / SIZES_TIMED * work[-1]
        for place in np.searchsorted(work, wanted):
            shape = (ordered[place], inner, outer)
            seconds += work[-1] / SIZES_TIMED / flops(shape) * _product_s(shape, dtype, device)
    return sum(flops(shape) * count for shape, count in products.items()) / seconds


@torch.inference_mode()
def _product_s(shape: Shape, dtype: torch.dtype, device: torch.device) -> float:
    rows, inner, outer = shape
    states = torch.randn(rows, inner, device=device).to(dtype)
    weights = torch.randn(outer, inner, device=device).to(dtype).T  # as linear layers keep them
    times = []
    for _ in range(REPEATS + 1):
        began = now(device)
        torch.matmul(states, weights)
        times.append(now(device) - began)
    return statistics.median(times[1:])


@contextmanager
def counted() -> Iterator[Counter[Shape]]:
    with Products() as products:
        yield products.count


def throughput(subject: BenchmarkCase) -> tuple[float, float, Explained]:
    """FLOP/s of our sweep of the subject's rows, FLOP/s of plain products, and the results.

    Our FLOPs count only the products of linear layers; our time is the whole time.
    """
    with counted() as products:
        explain(subject)
    found = explain(subject)
    model = subject.loaded.model
    done = sum(flops(shape) * count for shape, count in products.items())
    ours = done / sum(found.seconds.values())
    with in_precision_of(model):
        return ours, plain_rate(products, model.dtype, model.device), found


def nesting(subject: BenchmarkCase) -> tuple[float, float]:
    """The time of all levels relative to level 0 alone: measured, and by layer passes.

    The work is the first example, many times, with half of its tokens replaced at random.
    """
    encoded, levels = subject.plan.explained_examples[0], subject.plan.levels
    drawn = np.random.default_rng(0).random((MASKS, len(encoded.prompt))) < 0.5
    prompts = [(*encoded.prefix, *np.where(kept, encoded.prompt, 0).tolist()) for kept in drawn]
    seconds, tokens = [], []
    for asked in ((0,), levels):
        queries = [ScoringQuery(ids, encoded.options[:1], asked) for ids in prompts]
        model, device = subject.nested(), subject.loaded.model.device
        model.log_likelihoods(queries[:8])
        before, began = model.forward_tokens, now(device)
        model.log_likelihoods(queries)
        seconds.append(now(device) - began)
        tokens.append(model.forward_tokens - before)
    return seconds[1] / seconds[0], tokens[1] / tokens[0]
