"""The steps of a sweep. A step may run in another process.

Its arguments are small, and it stores its own result. A step takes its arguments and a `log`, so an
executor can run it anywhere (`executor.StepCall`).
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import polars as pl

from prunelake.errors import CorruptFile
from prunelake.inference.nested import NestedModel
from prunelake.lake import commit
from prunelake.lake.partial_runs import ORDER_SHARD, ComputeCost, CopiedCells, PartialRun
from prunelake.models.fusion import fuse_elementwise
from prunelake.models.gpu import devices
from prunelake.models.gpu.device_names import ALL_GPUS
from prunelake.models.gpu.devices import short_device_name
from prunelake.models.gpu.placement import model_devices
from prunelake.models.loading import LoadedModel, ModelSource, load_model
from prunelake.models.precision import slow_format_warning
from prunelake.models.sources import pin_source, resolve_pinned
from prunelake.schema.run_tables import LAYERS
from prunelake.settings import Settings
from prunelake.spec import Dtype, SweepSpec
from prunelake.strategies.removal_order import RemovalOrder, removal_order
from prunelake.sweeps.evaluate import ShardWork, StageProgress, evaluate_shard
from prunelake.sweeps.executor import Log
from prunelake.sweeps.plan import SweepPlan, plan_sweep
from prunelake.sweeps.reuse import find_known_order
from prunelake.sweeps.run_rows import example_rows, layer_rows
from prunelake.tasks.encoding import Encoder

SECONDS_BETWEEN_REPORTS = 10.0

MOST_LOGGED_PARTS = 100
"""A removal order of experts may have thousands of them."""

_model_cache: dict[tuple[str, Dtype, str, bool], LoadedModel] = {}


def prepare(spec: SweepSpec, settings: Settings, *, log: Log) -> SweepPlan:  # noqa: ARG001  # a Step
    """Resolve a spec: weights, rows, levels and identity.

    Raises:
        PruneLakeError: as `plan.plan_sweep`.
    """
    plan = plan_sweep(spec, settings)
    return replace(plan, source=pin_source(plan.source))


def order_layers(
    plan: SweepPlan, settings: Settings, partial_run: PartialRun, *, log: Log
) -> ComputeCost:
    """Find the removal order of the spec's strategy, and store it for all shards.

    The order of another run is reused if it is the same.

    Raises:
        ModelError, TaskError: as `removal_order.removal_order`.
        LakeError: the order cannot be stored.
    """
    if cost := finished_cost(partial_run, ORDER_SHARD, log):
        return cost
    if found := find_known_order(settings.lake, plan, log):
        donor, layers = found
        log(f"removal order: copied from run {donor}")
        cost = ComputeCost(0.0, 0.0, "", (CopiedCells(donor, LAYERS.name, layers.height),))
        _write_order(partial_run, plan, layers, cost)
        return cost
    loaded = cached_model(plan.source, plan.spec.dtype, settings, log)
    started = time.perf_counter()
    strategy = plan.spec.strategy
    report = partial(_progress_log("removal order", log), strategy.label)
    order = removal_order(
        loaded.model,
        strategy,
        plan.calibration_windows,
        plan.search_examples,
        plan.levels[-1],
        report,
    )
    parts = ", ".join(map(str, order.layers[:MOST_LOGGED_PARTS]))
    more = len(order.layers) - MOST_LOGGED_PARTS
    log(
        f"removal order ({strategy.label}, {order.forward_tokens:.0f} forward tokens): "
        f"[{parts}{f', and {more} more' if more > 0 else ''}]"
    )
    seconds = time.perf_counter() - started
    cost = ComputeCost(
        order.forward_tokens, seconds, short_device_name(*model_devices(loaded.model))
    )
    _write_order(partial_run, plan, layer_rows(plan.identity.run_id, order), cost)
    return cost


def measure_shard(
    work: ShardWork,
    order: RemovalOrder,
    settings: Settings,
    partial_run: PartialRun,
    *,
    log: Log,
) -> ComputeCost:
    """Measure the examples of one shard, and store their rows.

    The model is not loaded if all rows are known.

    Raises:
        ModelError: as `evaluate.evaluate_shard`.
        LakeError: the shard cannot be stored.
    """
    # Ray repeats a task when its worker dies, even if the worker had already stored the shard.
    if cost := finished_cost(partial_run, work.shard.name, log):
        return cost
    if work.is_known:
        cost = ComputeCost(0.0, 0.0, "", work.copied)
        partial_run.write_shard(work.shard.name, work.known, cost)
        return cost
    loaded = cached_model(work.source, work.dtype, settings, log)
    started = time.perf_counter()
    encoder = Encoder(loaded.tokenizer, work.special_tokens)
    model = NestedModel(loaded.model, order.layers, unit=work.unit)
    frames = evaluate_shard(work, encoder, model, _progress_log(str(work.shard), log))
    seconds = time.perf_counter() - started
    device = short_device_name(*model_devices(loaded.model))
    cost = ComputeCost(model.forward_tokens, seconds, device, work.copied)
    partial_run.write_shard(work.shard.name, frames, cost)
    log(f"{work.shard}: {cost.forward_tokens:.0f} forward tokens in {cost.duration_s:.1f} s")
    return cost


def commit_run(
    settings: Settings,
    run: Mapping[str, Any],
    frames: Mapping[str, pl.DataFrame],
    *,
    log: Log,  # noqa: ARG001  # a Step
) -> None:
    """Write the run to the lake.

    Raises:
        LakeError: as `commit.write_run`.
    """
    commit.write_run(settings.lake, run, frames)


def analyse_run(settings: Settings, run_id: str, *, log: Log) -> None:  # noqa: ARG001  # a Step
    """Compute the run's intervals, tests and correlations, and store them beside the run.

    Raises:
        LakeError: as `analyse.analyse`.
    """
    from prunelake.analysis.analyse import analyse  # its scipy.stats is not needed before the end

    analyse(settings.lake, run_id)


def _write_order(
    partial_run: PartialRun, plan: SweepPlan, layers: pl.DataFrame, cost: ComputeCost
) -> None:
    frames = {"layers": layers, "examples": example_rows(plan)}
    partial_run.write_shard(ORDER_SHARD, frames, cost, plan.identity.model_dump_json())


def finished_cost(partial_run: PartialRun, name: str, log: Log) -> ComputeCost | None:
    """The cost of a finished shard; None if the shard is missing or damaged."""
    try:
        return partial_run.shard_cost(name)
    except CorruptFile as error:
        log(f"warning: {error}; {name} is computed again")
        return None


def cached_model(source: ModelSource, dtype: Dtype, settings: Settings, log: Log) -> LoadedModel:
    """A model on the device that the settings ask for; this process loads it once.

    The process keeps the model until it needs another one. A worker of Ray finds the weights on its
    own machine, and uses a GPU if its shards are given a share of a GPU.

    Raises:
        ModelError: as `sources.resolve_model`, `devices.acquire_device` and `loading.load_model`.
    """
    key = (source.revision, dtype, settings.device, settings.compile)
    if key in _model_cache:
        return _model_cache[key]
    cache = settings.cache.expanduser()
    device = settings.device
    is_on_ray = settings.task_runner == "ray"
    if is_on_ray:
        source = resolve_pinned(source, cache)
        if device == "auto":
            device = "cpu"
            if settings.ray_gpus:
                device = ALL_GPUS if settings.ray_gpus > 1 else "cuda"
    device = devices.acquire_device(device, settings.lock_folder, log, is_shared=is_on_ray)
    log(f"loading {source.reference} in {dtype} on {device}")
    if warning := slow_format_warning(dtype, device):
        log(warning)
    _model_cache.clear()  # before the next model is loaded: two models may not fit
    loaded = load_model(source, dtype, device)
    if settings.compile:
        fuse_elementwise(loaded.model)
    _model_cache[key] = loaded
    return loaded


def _progress_log(label: str, log: Log) -> StageProgress:
    """Log the progress within a shard or within a search, at most every few seconds."""
    last = time.perf_counter()

    def report(stage: str, done: int, total: int) -> None:
        nonlocal last
        now = time.perf_counter()
        if now - last > SECONDS_BETWEEN_REPORTS:
            last = now
            log(f"{label}: {stage}, {done} of {total}")

    return report
