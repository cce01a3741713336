"""Measure the time of each stage of a sweep: `evaluate_shard` and the writing."""

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.subject import BenchmarkCase, now
from prunelake.inference.level_masks import LevelMasks
from prunelake.inference.nested import NestedModel, Progress
from prunelake.inference.prefix_tree import ScoringQuery
from prunelake.lake import commit
from prunelake.lake.partial_runs import ORDER_SHARD, ComputeCost, PartialRun
from prunelake.schema.run_tables import ATTRIBUTIONS, DELETIONS, LAYERS, PREDICTIONS
from prunelake.strategies.removal_order import RemovalOrder
from prunelake.sweeps.evaluate import evaluate_shard, shard_work
from prunelake.sweeps.run_rows import example_rows, layer_rows, run_row
from prunelake.sweeps.shards import split_into_shards
from prunelake.tasks.encoding import Encoder, encode_examples

CPU = torch.device("cpu")

COLUMNS = ("part of a sweep", "s", "%")

LAYERS_OF_MODEL = "forward: the layers"
HEAD = "forward: the output head's product"
AROUND = "forward: softmax, batches, masks"
TOKENISING = "tokenising"
REGRESSION = "masks and regression of KernelSHAP"
WRITING = "writing"
REST = "rest"


@dataclass
class Clock:
    """Seconds by part. `inside` is the time that inner parts have already counted."""

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    @property
    def inside(self) -> float:
        return sum(self.seconds.values())

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Count the time of a block for `part`, without the time of parts inside it."""
        before, began = self.inside, now(CPU)
        try:
            yield
        finally:
            self.seconds[part] += now(CPU) - began - (self.inside - before)


@dataclass(frozen=True)
class TimedEncoder(Encoder):
    """An encoder whose work a clock times."""

    clock: Clock = field(default_factory=Clock)

    def encode_text(self, text: str) -> list[int]:
        with self.clock.timed(TOKENISING):
            return super().encode_text(text)

    def decode(self, ids: Sequence[int]) -> str:
        with self.clock.timed(TOKENISING):
            return super().decode(ids)


class TimedModel(NestedModel):
    """A nested model whose work a clock times."""

    clock: Clock

    def log_likelihoods(
        self,
        queries: Sequence[ScoringQuery],
        progress: Progress | None = None,
        masks: LevelMasks | None = None,
    ) -> list[NDArray[np.float64]]:
        with self.clock.timed(AROUND):
            return super().log_likelihoods(queries, progress, masks)


@contextmanager
def hooked(subject: BenchmarkCase, clock: Clock) -> Iterator[None]:
    """Time the parts of the model with the clock."""
    model = subject.loaded.model
    began: list[tuple[float, float]] = []

    def enter(*_: Any) -> None:
        began.append((now(model.device), clock.inside))

    def leave(part: str) -> Any:
        def left(*_: Any) -> None:
            start, inside = began.pop()
            clock.seconds[part] += now(model.device) - start - (clock.inside - inside)

        return left

    hooks = []
    parts = ((model.base_model, LAYERS_OF_MODEL), (model.get_output_embeddings(), HEAD))
    for module, name in parts:
        hooks += [
            module.register_forward_pre_hook(enter),
            module.register_forward_hook(leave(name)),
        ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def profile(subject: BenchmarkCase) -> Iterator[list[str]]:
    """The rows of the table, from one sweep of the subject's rows into a new lake."""
    clock = Clock()
    began = now(CPU)
    with tempfile.TemporaryDirectory() as folder, hooked(subject, clock):
        _sweep(subject, Path(folder), clock)
    total = now(CPU) - began
    parts = [LAYERS_OF_MODEL, HEAD, AROUND, TOKENISING, REGRESSION, WRITING]
    clock.seconds[REST] += total - clock.inside
    for name in [*parts, REST]:
        seconds = clock.seconds[name]
        yield [name, f"{seconds:.2f}", f"{100 * seconds / total:.1f}"]
    passes = sum(clock.seconds[name] for name in (LAYERS_OF_MODEL, HEAD, AROUND))
    yield [
        "all but the forward passes",
        f"{total - passes:.2f}",
        f"{100 - 100 * passes / total:.1f}",
    ]


def _sweep(subject: BenchmarkCase, folder: Path, clock: Clock) -> None:
    encoder = TimedEncoder(subject.loaded.tokenizer, clock=clock)
    examples = [encoded.example for encoded in subject.plan.examples]
    work = replace(subject.plan, examples=tuple(encode_examples(encoder, examples, 10**6)))
    model = TimedModel(subject.loaded.model, subject.order)
    model.clock = clock
    order = RemovalOrder(subject.order, (0.0,) * len(subject.order))
    partial_run = PartialRun(folder, work.identity.run_id)
    stage_began, inside = now(CPU), clock.inside

    def report(stage: str, done: int, total: int) -> None:
        """The last report of a stage ends it; `attribute` outside the model is REGRESSION."""
        nonlocal stage_began, inside
        if done == total:
            ended = now(CPU)
            if stage == "attribute":
                clock.seconds[REGRESSION] += ended - stage_began - (clock.inside - inside)
            stage_began, inside = ended, clock.inside

    shards = split_into_shards(len(work.examples), len(work.explained_examples))
    with clock.timed(WRITING):
        partial_run.write_shard(
            ORDER_SHARD, {"layers": layer_rows(work.identity.run_id, order)}, ComputeCost(0, 0, "")
        )
    for shard in shards:
        stage_began, inside = now(CPU), clock.inside
        frames = evaluate_shard(shard_work(work, shard), encoder, model, report)
        with clock.timed(WRITING):
            partial_run.write_shard(shard.name, frames, ComputeCost(0, 0, ""))
    with clock.timed(WRITING):
        names = [shard.name for shard in shards]
        rows = {
            t.name: partial_run.read_table(t, names) for t in (PREDICTIONS, ATTRIBUTIONS, DELETIONS)
        }
        rows |= {
            "layers": partial_run.read_table(LAYERS, [ORDER_SHARD]),
            "examples": example_rows(work),
        }
        commit.write_run(folder, run_row(work, order, [ComputeCost(0, 0, "")]), rows)
