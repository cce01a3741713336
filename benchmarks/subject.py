"""The subject of the speed benchmarks: a model, rows of a task, and our way to explain them."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import polars as pl
import torch

from prunelake.errors import ModelError
from prunelake.evaluation.attributions import compute_attributions
from prunelake.evaluation.deletion_curves import deletion_curves
from prunelake.evaluation.predictions import predict
from prunelake.explanation_spec import Method
from prunelake.inference.nested import NestedModel
from prunelake.models.gpu import devices
from prunelake.models.loading import LoadedModel, load_model
from prunelake.models.precision import set_matmul_precision
from prunelake.settings import Settings
from prunelake.spec import Dtype, Explanation, Rows, SweepSpec
from prunelake.strategies.removal_order import removal_order
from prunelake.sweeps.evaluate import ask_together, explained_prompt
from prunelake.sweeps.plan import SweepPlan, plan_sweep
from prunelake.tasks.encoding import EncodedExample, Encoder

CLOCK = os.environ.get("PRUNELAKE_BENCH_CLOCK", "wall")


@dataclass(frozen=True)
class NumberFormat:
    """A number format, and its name in tables."""

    name: str
    dtype: Dtype


FLOAT32 = NumberFormat("float32", "float32")
MIXED = NumberFormat("float32, bfloat16 products", "float32_bf16")
BFLOAT16 = NumberFormat("bfloat16", "bfloat16")
FLOAT16 = NumberFormat("float16", "float16")


@dataclass(frozen=True)
class BenchmarkCase:
    """A loaded model, a plan of rows and levels, and the removal order of all formats."""

    plan: SweepPlan
    loaded: LoadedModel
    order: tuple[int, ...]
    shares_beginnings: bool = True

    @property
    def encoder(self) -> Encoder:
        return Encoder(self.loaded.tokenizer, self.plan.spec.special_tokens)

    @property
    def explanation(self) -> Explanation:
        assert self.plan.explanation is not None
        return self.plan.explanation

    def nested(self) -> NestedModel:
        return NestedModel(self.loaded.model, self.order, shared_prompt=self.shares_beginnings)


@dataclass(frozen=True)
class Explained:
    """The results, and the seconds and forward tokens of each stage."""

    predictions: pl.DataFrame
    attributions: pl.DataFrame
    deletions: pl.DataFrame
    seconds: dict[str, float]
    tokens: dict[str, float]


def settings_of(device: str | None) -> Settings:
    """The settings of the environment; a device given as an option takes precedence."""
    settings = Settings()
    return settings if device is None else settings.model_copy(update={"device": device})


def plan_of(
    task: str,
    rows: int,
    levels: Sequence[int] | None,
    settings: Settings,
    seeds: Sequence[int] = (0,),
    methods: tuple[Method, ...] = ("kernel_shap",),
) -> SweepPlan:
    """Sampled rows of a task, explained as the paper does: by default KernelSHAP, deleted text."""
    explanation = Explanation(methods=methods, seeds=tuple(seeds), operators=("delete_text",))
    spec = SweepSpec(
        task=task,
        rows=Rows(sample=rows),
        levels=None if levels is None else tuple(levels),
        explain=explanation,
    )
    return plan_sweep(spec, settings)


def order_of(work: SweepPlan, settings: Settings) -> tuple[int, ...]:
    """The removal order in float32, which all formats and tools use."""
    loaded = load_model(work.source, "float32", device_of(settings))
    return removal_order(loaded.model, work.spec.strategy, work.calibration_windows).layers


def device_of(settings: Settings) -> str:
    return devices.acquire_device(settings.device, settings.lock_folder, lambda _: None)


def prepared(
    work: SweepPlan, order: tuple[int, ...], settings: Settings, number: NumberFormat
) -> BenchmarkCase:
    """The subject in one number format."""
    return BenchmarkCase(work, load_model(work.source, number.dtype, device_of(settings)), order)


def formats_of(work: SweepPlan, settings: Settings) -> tuple[NumberFormat, ...]:
    """The number formats of the device, float32 first; only GPUs have float16."""
    device = device_of(settings)
    model = load_model(work.source, "float32", device).model
    try:
        set_matmul_precision(model, MIXED.dtype)
    except ModelError:
        mixed: tuple[NumberFormat, ...] = ()
    else:
        mixed = (MIXED,)
    return (FLOAT32, *mixed, BFLOAT16, *((FLOAT16,) if device.startswith("cuda") else ()))


def now(device: torch.device) -> float:
    """The time in seconds, after all work of the device is done.

    PRUNELAKE_BENCH_CLOCK=cpu counts the CPU seconds of this process, for ratios on a busy machine.
    Set OMP_NUM_THREADS=1 then: threads that wait for each other count, too.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.process_time() if CLOCK == "cpu" else time.perf_counter()


def explain(subject: BenchmarkCase, with_all_curves: bool = False) -> Explained:
    """Our way: predictions, attributions and deletion curves of all rows at all levels.

    The curves of random rankings are left out, because the other tools have none.
    """
    work, model, device = subject.plan, subject.nested(), subject.loaded.model.device
    seconds: dict[str, float] = {}
    tokens: dict[str, float] = {}
    began, counted = now(device), 0.0

    def done(stage: str) -> None:
        nonlocal began, counted
        ended = now(device)
        seconds[stage], tokens[stage] = ended - began, model.forward_tokens - counted
        began, counted = ended, model.forward_tokens

    run_id = work.identity.run_id
    predictions = predict(model, run_id, work.examples, work.levels)
    done("predict")
    attributions = compute_attributions(
        model, predictions, work.explained_examples, work.levels, subject.explanation
    )
    done("attribute")
    prompts = [
        explained_prompt(subject.encoder, model, encoded) for encoded in work.explained_examples
    ]
    ranked = attributions if with_all_curves else attributions.filter(method="kernel_shap")
    ask = partial(ask_together, subject.encoder, model, work.explained_examples)
    deletions = deletion_curves(ranked, predictions, prompts, subject.explanation, ask=ask)
    done("delete")
    return Explained(predictions, ranked, deletions, seconds, tokens)


def predicted(subject: BenchmarkCase) -> tuple[pl.DataFrame, float, float]:
    """Our predictions of all rows at all levels, seconds, and forward tokens."""
    model, device = subject.nested(), subject.loaded.model.device
    began = now(device)
    found = predict(model, "-", subject.plan.examples, subject.plan.levels)
    return found, now(device) - began, model.forward_tokens


def option_of(found: pl.DataFrame, level: int, encoded: EncodedExample) -> int:
    """The option that a level predicts."""
    name = encoded.example.example_id
    chosen: int = found.filter(level=level, example_id=name)["prediction"].item()
    return chosen
