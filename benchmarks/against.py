"""PruneLake compared with other tools: first the numbers, then the times, as rows of one table.

A baseline runs only at the first and the last level. Its cost falls evenly with each removed layer,
so its time for all levels is the mean of both times, multiplied by the number of levels.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import polars as pl
import torch

from benchmarks.baselines import Harness, Interpreto, at_level, captum_scores, curves
from benchmarks.subject import BenchmarkCase, Explained, NumberFormat, now, option_of, predicted
from prunelake.tasks.encoding import EncodedExample

COLUMNS = (
    "baseline",
    "PruneLake: format, s",
    "baseline: format, s for all levels",
    "baseline ran on",
    "ratio",
    "required",
    "largest difference",
)

Found = TypeVar("Found")

FASTEST = {"default": "30 x", "best": "12 x"}

BATCHES = (8, 32, 128)
"""Batch sizes to try; a baseline uses the fastest."""

TOLERANCE = {
    # float32: captum's weights of 1e6 magnify rounding. bfloat16 has 8 bits: only gross errors
    # stop.
    "float32": {"scores": 5e-3, "probability": 1e-3, "log-likelihood": 2e-3},
    "bfloat16": {"scores": 2.0, "probability": 0.3, "log-likelihood": 8.0},
}


class Mismatch(SystemExit):
    """The numbers differ, so times cannot be compared."""


@dataclass(frozen=True)
class Timed:
    """Seconds of the baselines for all rows at all levels, and their differences from PruneLake.

    The keys are captum's default and best, the curves that both need, and interpreto batched.
    """

    seconds: dict[str, float]
    differences: dict[str, float]
    batch: int
    ran: str


def check_difference(subject: BenchmarkCase, kind: str, what: str, difference: float) -> None:
    dtype = str(subject.loaded.model.dtype).removeprefix("torch.")
    if not difference <= TOLERANCE[dtype][kind]:
        raise Mismatch(
            f"{what} in {dtype}: differs from ours by {difference:.3g}, "
            f"more than {TOLERANCE[dtype][kind]:g}: no times are shown"
        )


def clocked(subject: BenchmarkCase, work: Callable[[], Found]) -> tuple[Found, float]:
    device = subject.loaded.model.device
    began = now(device)
    found = work()
    return found, now(device) - began


def ends(levels: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted({levels[0], levels[-1]}))


def explaining(subject: BenchmarkCase, found: Explained, batched: BenchmarkCase) -> Timed:
    """Run captum both ways, the curves and interpreto on the rows of `found`.

    `batched` is a second copy of the model: interpreto changes its embeddings.
    """
    levels, examples = ends(subject.plan.levels), subject.plan.explained_examples
    batch = fastest_batch(lambda size: interpreto_s(batched, found, examples[0], size))
    seconds: dict[str, float] = defaultdict(float)
    off: dict[str, float] = defaultdict(float)
    for level in levels:
        for encoded in examples:
            for seed in subject.explanation.seeds:
                with at_level(subject, level), at_level(batched, level):
                    cell = one_cell(
                        subject, Interpreto(batched, batch), found, level, encoded, seed
                    )
                for way, (took, difference) in cell.items():
                    seconds[way] += took
                    off[way] = max(off[way], difference)
    check_difference(subject, "scores", "captum at its best, scores", off["best"])
    check_difference(subject, "probability", "deletion curves pass by pass", off["curves"])
    check_difference(
        subject, "log-likelihood", "interpreto of the unchanged prompt", off["batched"]
    )
    scale = len(subject.plan.levels) / len(levels)
    ran = f"{len(examples)} rows, levels {' and '.join(map(str, levels))}, x {scale:g}"
    return Timed({way: took * scale for way, took in seconds.items()}, off, batch, ran)


def one_cell(
    subject: BenchmarkCase,
    way: Interpreto,
    found: Explained,
    level: int,
    encoded: EncodedExample,
    seed: int,
) -> dict[str, tuple[float, float]]:
    """Seconds of every baseline for one level, example and seed, and its difference from PruneLake.

    interpreto draws its own masks, so its log-likelihood of the unchanged prompt is compared.
    """
    option = option_of(found.predictions, level, encoded)
    own, curve = scores_of(found, level, encoded, seed), curve_of(found, level, encoded, seed)
    cell = {}
    for name, by_token in (("default", True), ("best", False)):
        run = partial(captum_scores, subject, encoded, option, seed, by_token)
        theirs, took = clocked(subject, run)
        cell[name] = (took, float(np.abs(theirs - own).max()))
    points, took = clocked(subject, partial(curves, subject, encoded, own.tolist(), option))
    assert points.keys() == curve.keys()
    cell["curves"] = (took, max(abs(points[place] - curve[place]) for place in points))
    _, took = clocked(subject, partial(way.scores, encoded, option))
    sums = log_likelihoods_of(found.predictions, level, encoded)
    cell["batched"] = (took, abs(way.log_likelihood(encoded, option) - float(sums[option])))
    return cell


def interpreto_s(
    subject: BenchmarkCase, found: Explained, encoded: EncodedExample, batch: int
) -> float:
    option = option_of(found.predictions, 0, encoded)
    with at_level(subject, 0):
        return clocked(subject, lambda: Interpreto(subject, batch).scores(encoded, option))[1]


def fastest_batch(seconds: Callable[[int], float]) -> int:
    """The fastest batch size that fits into memory."""
    took: dict[int, float] = {}
    for batch in BATCHES:
        try:
            took[batch] = seconds(batch)
        except torch.OutOfMemoryError:
            break
    return min(took, key=lambda batch: took[batch])


def predicting(subject: BenchmarkCase, number: NumberFormat) -> tuple[list[str], float, float]:
    """The row of one task's predictions compared with the harness; our seconds and its seconds."""
    found, own_s, _ = predicted(subject)
    levels, examples = ends(subject.plan.levels), subject.plan.examples
    some = examples[: max(BATCHES) // 4]
    batch = fastest_batch(
        lambda size: clocked(subject, lambda: Harness(subject, size).log_likelihoods(some))[1]
    )
    took, off, flips = 0.0, 0.0, 0
    for level in levels:
        with at_level(subject, level):
            way = Harness(subject, batch)
            answers, seconds = clocked(subject, partial(way.log_likelihoods, examples))
        took += seconds
        for encoded, theirs in zip(examples, answers, strict=True):
            own = log_likelihoods_of(found, level, encoded)
            off = max(off, float(np.abs(theirs - own).max()))
            flips += int(theirs.argmax() != own.argmax())
    check_difference(
        subject, "log-likelihood", f"lm-evaluation-harness, {subject.plan.spec.task}", off
    )
    scale = len(subject.plan.levels) / len(levels)
    ran = f"levels {' and '.join(map(str, levels))}, x {scale:g}, batch {batch}"
    different = f"{off:.1g} nats, {flips} of {len(levels) * len(examples)} predictions"
    label = f"lm-evaluation-harness: {subject.plan.spec.task}, {len(examples)} rows"
    cells = row(label, number.name, own_s, number.name, took * scale, ran, "", different)
    return cells, own_s, took * scale


def all_tasks(number: NumberFormat, count: int, own_s: float, their_s: float) -> list[str]:
    """The row of several tasks' predictions together."""
    label = f"lm-evaluation-harness: the {count} tasks together"
    return row(label, number.name, own_s, number.name, their_s, "as above", "5 x", "as above")


def explained_rows(ours: dict[str, Explained], theirs: dict[str, Timed]) -> Iterator[list[str]]:
    """The rows of explanations: each of our formats against the baselines.

    The paper's method and captum at its best run in float32, their default. interpreto runs in the
    same format as PruneLake.
    """
    for name, own in ours.items():
        whole, attributed = sum(own.seconds.values()), own.seconds["attribute"]
        for base, timed in theirs.items():
            if base not in (name, "float32"):
                continue
            wanted = {"default": "8 x", "best": "5 x"} if name == "float32" else FASTEST
            for way, label in (("default", "the paper's way"), ("best", "captum at its best")):
                seconds = timed.seconds[way] + timed.seconds["curves"]
                least = wanted[way] if base == "float32" else ""
                off = f"scores {timed.differences[way]:.1g}"
                off += f", curves {timed.differences['curves']:.1g}"
                yield row(label, name, whole, base, seconds, timed.ran, least, off)
            if name == base:
                label, seconds = "interpreto, attribution only", timed.seconds["batched"]
                ran, nats = f"{timed.ran}, batch {timed.batch}", timed.differences["batched"]
                yield row(label, name, attributed, base, seconds, ran, "2.5 x", f"{nats:.1g} nats")


def row(
    label: str, name: str, own_s: float, base: str, their_s: float, ran: str, least: str, off: str
) -> list[str]:
    return [
        label,
        f"{name}, {own_s:.1f}",
        f"{base}, {their_s:.1f}",
        ran,
        f"{their_s / own_s:.1f} x",
        least,
        off,
    ]


def scores_of(found: Explained, level: int, encoded: EncodedExample, seed: int) -> np.ndarray:
    name = encoded.example.example_id
    picked = found.attributions.filter(level=level, example_id=name, seed=seed)
    return np.array(picked["scores"].item(), dtype=float)


def curve_of(
    found: Explained, level: int, encoded: EncodedExample, seed: int
) -> dict[tuple[str, float], float]:
    name = encoded.example.example_id
    picked = found.deletions.filter(level=level, example_id=name, seed=seed)
    columns = picked.select("kind", "fraction", "probability_perturbed")
    return {(kind, fraction): p for kind, fraction, p in columns.iter_rows()}


def log_likelihoods_of(found: pl.DataFrame, level: int, encoded: EncodedExample) -> np.ndarray:
    name = encoded.example.example_id
    picked = found.filter(level=level, example_id=name)["option_log_likelihoods"]
    return np.array(picked.item(), dtype=float)
