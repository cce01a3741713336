"""The paper's whole protocol on a GPU: counted work, and its estimated time.

    python -m benchmarks.gpu_hours [--rows 24]

Counts what a sweep of each of the paper's eight tasks asks, without running a model: masks, trees,
batches, and the branches of a nested pass at 17 levels of a model with 32 layers. Estimates hours
on an H100 from these counts (`planning.gpu_time`). Needs PRUNELAKE_DATA, and no GPU. Writes
docs/measurements/gpu-hours.md.
"""

import argparse
import os
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch

from benchmarks import report
from benchmarks.llama import METHODS, PAPER, ROWS, SEEDS, planned_tokens
from benchmarks.subject import plan_of, settings_of
from prunelake.evaluation.captum_methods import draw_masks
from prunelake.evaluation.deletion_curves import top_count
from prunelake.evaluation.difference_shap import sample_stages
from prunelake.evaluation.token_counts import SAMPLES_PER_TOKEN
from prunelake.explanation_spec import DEFAULT_DIFFERENCE_SAMPLES, DEFAULT_UNPRUNED_SAMPLES, Method
from prunelake.inference.batches import GPU_BATCH_TOKENS, TokenBudget, batches
from prunelake.inference.lengths import GPU_LENGTHS
from prunelake.inference.level_masks import LevelMasks
from prunelake.inference.prefix_tree import ScoringQuery, batch_inputs, build_trees
from prunelake.models.loading import load_tokenizer
from prunelake.planning.cost import NestedLevels
from prunelake.planning.gpu_time import (
    FUSED_SHARE,
    H100,
    SHAPES,
    GpuTime,
    Work,
    gpu_time,
    product_flops,
)
from prunelake.schema.arrays import BoolArray, FloatArray
from prunelake.settings import Settings
from prunelake.spec import Dtype, SweepSpec
from prunelake.sweeps.shards import EXAMPLES_PER_EXPLANATION_SHARD
from prunelake.tasks.encoding import EncodedExample, Encoder

LAYERS = 32
LEVELS = tuple(range(LAYERS // 2 + 1))
FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5)
WAYS: dict[str, tuple[tuple[Method, ...], tuple[int, ...]]] = {
    "paper": (METHODS, SEEDS),
    "default": (("difference_shap",), (0,)),
}
"""Methods and seeds: those of the paper, and our default."""

FORMATS: tuple[Dtype, ...] = ("bfloat16", "tf32", "float32")
DRAW = random.Random(0)
ORDERS = {
    "deep layers first": DRAW.sample(range(LAYERS // 2 - 1, LAYERS), LAYERS // 2 + 1),
    "any layers": DRAW.sample(range(LAYERS), LAYERS),
}
"""Removal orders: of the deeper half, as `cosine` usually chooses, and of all layers."""


RowKind = tuple[tuple[int, ...], int, int]
"""Rows that cost the same: their levels, their length in a batch and their read positions."""


@dataclass
class Counts:
    """The rows of some batches, by kind, with their padding, and seconds of the CPU."""

    rows: Counter[RowKind] = field(default_factory=Counter)
    unpadded: float = 0
    padded: float = 0
    batch_count: float = 0
    host_s: float = 0
    mask_s: float = 0

    def add(self, other: "Counts", factor: float = 1) -> None:
        """Add `factor` times the work of other batches."""
        for kind, count in other.rows.items():
            self.rows[kind] += count * factor  # type: ignore[assignment]  # a mean number of rows
        for name in ("unpadded", "padded", "batch_count", "host_s", "mask_s"):
            setattr(self, name, getattr(self, name) + factor * getattr(other, name))

    def work(self, order: str) -> Work:
        """The work of these rows with the levels of a removal order."""
        block_tokens = attention_tokens = read_tokens = squares = tokens = 0.0
        for (levels, length, positions), count in self.rows.items():
            through, attended, branches, read = passes(order, levels)
            block_tokens += count * (through * length + read * positions)
            attention_tokens += count * attended * length
            read_tokens += count * branches * positions
            tokens += count * length
            squares += count * length**2
        return Work(
            *(block_tokens, attention_tokens, squares / tokens, read_tokens),
            *(self.host_s, self.mask_s),
        )


@cache
def level_masks(order: str) -> LevelMasks:
    return LevelMasks.nested(ORDERS[order], LAYERS)


@cache
def passes(order: str, levels: tuple[int, ...]) -> tuple[float, float, int, float]:
    """The passes of a row's tokens through MLPs and through attention, its branches at the end, and
    the passes of its read tokens behind the last attention of their levels."""
    masks, running, packed = level_masks(order), [levels], 0
    tokens = attended = read = 0.0
    for layer in range(LAYERS):
        parted = []
        for branch in running:
            keep = tuple(n for n in branch if n in masks.levels_keeping[layer])
            rest = tuple(n for n in branch if n not in masks.levels_keeping[layer])
            attended += bool(keep)
            for part in filter(None, (keep, rest)):
                if masks.levels_mixing[layer].isdisjoint(part):
                    packed += 1
                else:
                    parted.append(part)
        running = parted
        tokens += len(running)
        read += packed
    return tokens / LAYERS, attended / LAYERS, len(running) + packed, read / LAYERS


def count_batches(queries: Sequence[ScoringQuery], found: Counts) -> None:
    """Add the work of queries that are asked together, as a GPU would get it."""
    began = time.process_time()
    rows = [row for row, _ in build_trees(queries, 4096, GPU_LENGTHS)]
    for numbers in batches(rows, TokenBudget(GPU_BATCH_TOKENS), GPU_LENGTHS):
        own = [rows[n] for n in numbers]
        batch_inputs(own, torch.bfloat16, GPU_LENGTHS)
        length = GPU_LENGTHS.padded(max(len(row.tokens) for row in own))
        found.batch_count += 1
        for row in own:
            found.rows[row.levels, length, len(row.read_positions)] += 1
            found.unpadded += len(row.levels) * len(row.tokens)
            found.padded += len(row.levels) * length
    found.host_s += time.process_time() - began


def masks_of(
    way: str, encoded: EncodedExample, found: Counts
) -> list[tuple[BoolArray, tuple[int, ...]]]:
    """The masks of a row for all seeds, with their levels; half of the levels take the second
    stage of `difference_shap`. The time to draw and to fit goes to `found`."""
    count, masks = len(encoded.prompt), []
    began = time.process_time()
    methods, seeds = WAYS[way]
    for seed in seeds:
        for method in methods:
            if method == "difference_shap":
                samples = (*DEFAULT_DIFFERENCE_SAMPLES, DEFAULT_UNPRUNED_SAMPLES)
                draws = [int(per_token * count) for per_token in samples]
                stages = sample_stages(count, draws, np.random.default_rng(seed))
                asked = (LEVELS, (0, *LEVELS[len(LEVELS) // 2 :]), (0,))
                for stage, levels in zip(stages, asked, strict=True):
                    masks += [(mask, levels) for mask in stage.masks]
            else:
                draw = draw_masks(method, seed, count, SAMPLES_PER_TOKEN * count)
                masks += [(mask, LEVELS) for mask in draw.masks]
                for level in LEVELS:
                    draw.fit(np.sin(draw.masks @ np.arange(count) + level))
    found.mask_s += time.process_time() - began
    return masks


def masked_queries(way: str, encoded: EncodedExample, found: Counts) -> list[ScoringQuery]:
    levels_of: dict[bytes, set[int]] = defaultdict(set)
    masks: dict[bytes, BoolArray] = {}
    for mask, levels in masks_of(way, encoded, found):
        masks[mask.tobytes()] = mask
        levels_of[mask.tobytes()].update(levels)
    # Levels that predict other options ask for them too; one option stands for the usual case.
    return [
        ScoringQuery(
            (*encoded.prefix, *np.where(mask, encoded.prompt, 0).tolist()),
            encoded.options[:1],
            tuple(sorted(levels_of[key])),
        )
        for key, mask in masks.items()
    ]


def deleted_queries(way: str, encoded: EncodedExample, encoder: Encoder) -> list[ScoringQuery]:
    """Deletions by all rankings; no two levels agree on a ranking, except the random ones."""
    count = len(encoded.prompt)
    draw = np.random.default_rng(0)
    rankings: list[tuple[FloatArray, tuple[int, ...]]] = []
    methods, seeds = WAYS[way]
    rankings += [(draw.random(count), LEVELS) for _ in seeds]
    rankings += [(draw.random(count), (level,)) for level in LEVELS for _ in methods for _ in seeds]
    needed: dict[tuple[int, ...], set[int]] = defaultdict(set)
    for scores, levels in rankings:
        order = np.argsort(scores)
        for fraction in FRACTIONS:
            is_top = np.zeros(count, dtype=bool)
            is_top[order[: top_count(fraction, count)]] = True
            for kept in (is_top, ~is_top):
                if is_top.any():
                    ids = encoder.retokenise(np.asarray(encoded.prompt)[kept].tolist())
                    needed[ids].update(levels)
    return [
        ScoringQuery(encoder.context_ids(ids), encoded.options, tuple(sorted(levels)))
        for ids, levels in needed.items()
    ]


def count_task(name: str, way: str, rows: int, settings: Settings) -> tuple[Counts, float]:
    """The counts of ROWS rows of a task, from some of them, and the mean tokens of a prompt."""
    methods, seeds = WAYS[way]
    plan = plan_of(name, rows, LEVELS, settings, seeds, methods)
    every = plan_of(name, ROWS, LEVELS, settings, seeds, methods)
    encoder = Encoder(load_tokenizer(plan.source), SweepSpec(task=name).special_tokens)
    found = Counts()
    for start in range(0, len(plan.examples), EXAMPLES_PER_EXPLANATION_SHARD):
        shard = plan.examples[start : start + EXAMPLES_PER_EXPLANATION_SHARD]
        whole = [ScoringQuery((*e.prefix, *e.prompt), e.options, LEVELS) for e in shard]
        count_batches(whole, found)
        count_batches([q for e in shard for q in masked_queries(way, e, found)], found)
        count_batches([q for e in shard for q in deleted_queries(way, e, encoder)], found)
    length = float(np.mean([len(encoded.prompt) for encoded in every.examples]))
    scaled = Counts()
    # By the planner's count, since the time of a row grows with the square of its length.
    nested = NestedLevels(tuple(ORDERS["deep layers first"]), LAYERS)
    scaled.add(found, planned_tokens(every, nested) / planned_tokens(plan, nested))
    return scaled, length


def time_cells(found: GpuTime) -> list[str]:
    parts = (found.products, found.elementwise, found.host, found.masks)
    return [*(f"{part / 3600:.2f}" for part in parts), f"{found.hours:.2f}"]


def lines(rows: int, settings: Settings) -> Iterator[str]:
    load = os.getloadavg()[0]
    totals = {way: Counts() for way in WAYS}
    task_rows = []
    for way, total in totals.items():
        for name in PAPER:
            found, length = count_task(name, way, rows, settings)
            total.add(found)
            print(way, name, file=sys.stderr, flush=True)
            if way == "paper":
                tokens = [found.work(order).block_tokens for order in ORDERS]
                task_rows.append(
                    [
                        name,
                        f"{length:.0f}",
                        *(f"{count / 1e6:.1f}" for count in tokens),
                        f"{found.batch_count:,.0f}",
                        f"{100 * (1 - found.unpadded / found.padded):.1f} %",
                        f"{found.mask_s:.0f}",
                    ]
                )
    command = " ".join(["python -m benchmarks.gpu_hours", *sys.argv[1:]])
    yield report.head(command, "cpu", ("torch", "transformers", "captum"), load)
    yield ""
    yield (
        f"{ROWS} rows of each task (counted on {rows} of them, and scaled by the "
        f"planner's count of tokens), {len(LEVELS)} levels of {LAYERS} layers, "
        "deleted text. paper: KernelSHAP and LIME, 3 seeds; default: difference_shap, 1 "
        "seed. The first table has the paper's methods. Nothing here was measured on a GPU."
    )
    yield ""
    names = (
        *("task", "prompt tokens"),
        *(f"forward tokens, M: {order}" for order in ORDERS),
        *("batches", "padding", "masks, CPU s"),
    )
    yield from report.table(names, task_rows)
    yield ""
    hour_rows = []
    for way, total in totals.items():
        for order in ORDERS:
            work = total.work(order)
            variants = [(dtype, 1.0, "") for dtype in FORMATS]
            for dtype, share, note in [*variants, (FORMATS[0], FUSED_SHARE, ", compiled")]:
                hour_rows.append(
                    [
                        f"{way}, {order}, {dtype}{note}",
                        f"{work.block_tokens / 1e6:.0f}",
                        f"{product_flops(SHAPES['7b'], work):.1e}",
                        *time_cells(gpu_time(SHAPES["7b"], H100, dtype, work, share)),
                    ]
                )
    yield "7B on an H100; `compiled` is `PRUNELAKE_COMPILE=true`."
    yield ""
    columns = ("products, h", "elementwise, h", "host, h", "masks, h", "all, h")
    yield from report.table(
        ("methods, order, format", "forward tokens, M", "FLOP", *columns), hour_rows
    )
    yield ""
    yield "Other shapes in bfloat16, deep layers first, on one H100 or several in turn."
    yield ""
    yield from report.table(
        ("methods, shape", "weights, GB", *columns),
        [
            [
                f"{way}, {name}",
                f"{2 * shape.parameters / 1e9:.0f}",
                *time_cells(gpu_time(shape, H100, "bfloat16", total.work("deep layers first"))),
            ]
            for way, total in totals.items()
            for name, shape in SHAPES.items()
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=24, help="of each task that are counted")
    options = parser.parse_args()
    report.write("gpu-hours", [*lines(options.rows, settings_of("cpu"))])


if __name__ == "__main__":
    main()
