"""What of a sweep may run elsewhere: its removal order and its shards, each a task.

A task takes little, which can be sent, loads the model where it runs, and keeps its own result.
"""

import time
from functools import partial
from typing import Any

import torch
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import State

from prunelake.errors import CorruptFile, DatasetNotFound, LakeError, ModelNotFound
from prunelake.inference.nested import NestedModel
from prunelake.lake.partial_runs import ORDER_SHARD, ComputeCost, PartialRun
from prunelake.models import devices
from prunelake.models.loading import LoadedModel, ModelSource, load_model
from prunelake.models.sources import resolve_pinned
from prunelake.settings import Settings
from prunelake.spec import Dtype
from prunelake.strategies.importance import RemovalOrder, removal_order
from prunelake.sweep.plan import SweepPlan
from prunelake.sweep.run_rows import layer_rows
from prunelake.sweep.shard_work import ShardWork, StageProgress, TableFrames, evaluate_shard
from prunelake.sweep.shards import Shard
from prunelake.tasks.encoding import Encoder

SECONDS_BETWEEN_REPORTS = 10.0

_model_cache: dict[tuple[str, Dtype, str], LoadedModel] = {}


def is_transient(_task: Any, _run: Any, state: State[Any]) -> bool:
    """Retry what a network or a disk may cure: what could not be fetched, or not be stored."""
    result = state.result(raise_on_failure=False)
    if isinstance(result, LakeError):
        return isinstance(result.__cause__, OSError)
    return isinstance(result, ModelNotFound | DatasetNotFound)


@task(cache_policy=NO_CACHE, retries=2, retry_delay_seconds=5, retry_condition_fn=is_transient)
def order_layers(work: SweepPlan, settings: Settings, unfinished: PartialRun) -> ComputeCost:
    """Find the removal order of the spec's strategy, and keep it for all shards."""
    if cost := finished_cost(unfinished, ORDER_SHARD):
        return cost
    loaded = cached_model(work.source, work.spec.dtype, settings)
    started = time.perf_counter()
    strategy = work.spec.strategy
    report = partial(_progress_logger("removal order"), strategy.label)
    order = removal_order(
        loaded.model,
        strategy,
        work.calibration_windows,
        work.search_examples,
        work.levels[-1],
        report,
    )
    get_run_logger().info(
        "removal order (%s, %.0f forward tokens): %s",
        strategy.label,
        order.forward_tokens,
        list(order.layers),
    )
    cost = ComputeCost(order.forward_tokens, time.perf_counter() - started, _device_name(loaded))
    unfinished.write_shard(ORDER_SHARD, {"layers": layer_rows(work.identity.run_id, order)}, cost)
    return cost


@task(
    task_run_name="{work.shard}",
    cache_policy=NO_CACHE,
    retries=2,
    retry_delay_seconds=5,
    retry_condition_fn=is_transient,
)
def measure_shard(
    work: ShardWork, order: RemovalOrder, settings: Settings, unfinished: PartialRun
) -> ComputeCost:
    """Measure the examples of one shard, and keep what was found."""
    # Ray runs a task again whose worker died, also where all that it still owed was its answer.
    if cost := finished_cost(unfinished, work.shard.name):
        return cost
    loaded = cached_model(work.source, work.dtype, settings)
    started = time.perf_counter()
    encoder = Encoder(loaded.tokenizer, work.special_tokens)
    model = NestedModel(loaded.model, order.layers, unit=work.unit)
    frames: TableFrames = evaluate_shard(work, encoder, model, _progress_logger(work.shard))
    cost = ComputeCost(model.forward_tokens, time.perf_counter() - started, _device_name(loaded))
    unfinished.write_shard(work.shard.name, frames, cost)
    get_run_logger().info(
        "%s: %.0f forward tokens in %.1f s", work.shard, cost.forward_tokens, cost.duration_s
    )
    return cost


def finished_cost(unfinished: PartialRun, name: str) -> ComputeCost | None:
    """What a shard took; None where it is not finished, or damaged."""
    try:
        return unfinished.shard_cost(name)
    except CorruptFile as error:
        get_run_logger().warning("%s; %s is computed again", error, name)
        return None


def cached_model(source: ModelSource, dtype: Dtype, settings: Settings) -> LoadedModel:
    """A model on the device that the settings ask for, loaded once a process.

    The process keeps it until it needs another one. A worker of Ray finds the weights on its own
    machine, and has a GPU where shards are to have one.

    Raises:
        ModelError: as `sources.resolve_model`, `devices.acquire_device` and `loading.load_model`.
    """
    key = (source.revision, dtype, settings.device)
    if key in _model_cache:
        return _model_cache[key]
    logger = get_run_logger()
    cache = settings.cache.expanduser()
    device = settings.device
    is_on_ray = settings.task_runner == "ray"
    if is_on_ray:
        source = resolve_pinned(source, cache)
        if device == "auto":
            device = "cuda" if settings.ray_gpus else "cpu"
    device = devices.acquire_device(device, cache, logger.info, is_allotted=is_on_ray)
    logger.info("loading %s in %s on %s", source.reference, dtype, device)
    _model_cache.clear()  # before the next one comes: two may not fit
    _model_cache[key] = load_model(source, dtype, device)
    return _model_cache[key]


def _progress_logger(what: Shard | str) -> StageProgress:
    """Log how far a shard or the search for an order is, at most every few seconds."""
    logger = get_run_logger()
    last = time.perf_counter()

    def report(stage: str, done: int, total: int) -> None:
        nonlocal last
        now = time.perf_counter()
        if now - last > SECONDS_BETWEEN_REPORTS:
            last = now
            logger.info("%s: %s, %d of %d", what, stage, done, total)

    return report


def _device_name(loaded: LoadedModel) -> str:
    device = loaded.model.device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
