"""One sweep of one model on one task, from spec to lake."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_progress_artifact, create_table_artifact
from prefect.artifacts import update_progress_artifact as update_progress
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import State

from prunelake import devices, lake, views
from prunelake.analyse import analyse
from prunelake.attribute import attribute
from prunelake.bounds import aopc_bounds, question_count
from prunelake.encoding import Encoded
from prunelake.errors import DatasetNotFound, LakeError, ModelNotFound
from prunelake.faithfulness import Ids, Prompt, deletion_curves
from prunelake.importance import RemovalOrder, removal_order
from prunelake.models import LoadedModel, load
from prunelake.nested import NestedModel, Query
from prunelake.plan import Plan, plan
from prunelake.predict import predict, probabilities
from prunelake.spec import Settings, SweepSpec
from prunelake.tables import ATTRIBUTIONS, BOUNDS, DELETIONS, EXAMPLES, LAYERS

SECONDS_BETWEEN_REPORTS = 10.0


def _may_pass(_task: Any, _run: Any, state: State[Any]) -> bool:
    """Retry what a network may cure: weights or rows that could not be fetched."""
    result = state.result(raise_on_failure=False)
    return isinstance(result, ModelNotFound | DatasetNotFound)


@flow(name="sweep", flow_run_name="{spec.task} {spec.strategy.name} {spec.model}")
def sweep(spec: SweepSpec, settings: Settings | None = None) -> str:
    """Evaluate one model on one task at every removal level; returns the run's id.

    A run that the lake has already is not computed again. The lake sees the run when it is
    complete, or not at all.
    """
    settings = settings or Settings()
    logger = get_run_logger()
    started = time.perf_counter()
    work = prepare(spec, settings)
    run_id = work.identity.run_id
    if lake.has_run(settings.lake, run_id):
        logger.info("run %s is in the lake already; nothing to compute", run_id)
        if run_id in lake.unanalysed(settings.lake):
            analyse_run(settings, run_id)
        return run_id
    lake.check_writable(settings.lake)
    loaded = load_model(work, settings)
    order = order_layers(work, loaded)
    model = NestedModel(loaded.model, order.layers)
    predictions = predict_examples(work, model)
    attributions, deletions = explain_predictions(work, model, predictions)
    bounds = bound_curves(work, model, predictions)
    frames = {
        "layers": layer_rows(run_id, order),
        "examples": example_rows(run_id, work),
        "predictions": predictions,
        "attributions": attributions,
        "deletions": deletions,
        "bounds": bounds,
    }
    calibration_tokens = sum(len(window) for window in work.windows)
    run = {
        "run_id": run_id,
        "created_at": datetime.now(UTC),
        "model": spec.model,
        "revision": work.source.revision,
        "architecture": work.source.architecture,
        "strategy": spec.strategy.label,
        "task": spec.task,
        "split": work.split,
        "example_count": len(work.examples),
        "levels": [*work.levels],
        "layer_count": work.source.layer_count,
        "removal_order": [*order.layers],
        "dtype": spec.dtype,
        "device": _device_name(loaded),
        "code_version": version("prunelake"),
        "spec": spec.model_dump_json(),
        "identity": work.identity.model_dump_json(),
        "duration_s": time.perf_counter() - started,
        "forward_tokens": round(model.forward_tokens) + calibration_tokens,
    }
    write(settings, run, frames)
    analyse_run(settings, run_id)
    publish_summary(settings, run_id)
    logger.info(
        "run %s: %s examples, levels %s, %s forward tokens in %.0f s",
        run_id,
        len(work.examples),
        list(work.levels),
        run["forward_tokens"],
        run["duration_s"],
    )
    return run_id


@task(cache_policy=NO_CACHE, retries=2, retry_delay_seconds=10, retry_condition_fn=_may_pass)
def prepare(spec: SweepSpec, settings: Settings) -> Plan:
    """Resolve the spec: weights, rows, levels, identity."""
    return plan(spec, settings)


@task(cache_policy=NO_CACHE)
def load_model(work: Plan, settings: Settings) -> LoadedModel:
    """Load the model onto the device asked for; `auto` takes a GPU where there is one."""
    logger = get_run_logger()
    device = devices.take(settings.device, settings.cache.expanduser(), logger.info)
    logger.info("loading %s in %s on %s", work.spec.model, work.spec.dtype, device)
    return load(work.source, work.spec.dtype, device)


@task(cache_policy=NO_CACHE)
def order_layers(work: Plan, loaded: LoadedModel) -> RemovalOrder:
    """Find the removal order of the spec's strategy."""
    order = removal_order(loaded.model, work.spec.strategy, work.windows)
    get_run_logger().info("removal order (%s): %s", work.spec.strategy.label, list(order.layers))
    return order


@task(cache_policy=NO_CACHE)
def predict_examples(work: Plan, model: NestedModel) -> pl.DataFrame:
    """Predictions and confidences of all examples at all levels."""
    report = _reporter("predict", "rows")
    return predict(model, work.identity.run_id, work.examples, work.levels, report)


@task(cache_policy=NO_CACHE)
def explain_predictions(
    work: Plan, model: NestedModel, predictions: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Attributions and deletion curves of the examples to explain."""
    explanation = work.explanation
    if explanation is None:
        return ATTRIBUTIONS.frame([]), DELETIONS.frame([])
    attributions = attribute(
        model,
        predictions,
        work.explained,
        explanation.levels or work.levels,
        explanation,
        _reporter("attribute", "examples"),
    )
    deletions = deletion_curves(
        attributions,
        predictions,
        [_prompt(work, model, encoded) for encoded in work.explained],
        explanation,
        _reporter("deletion curves", "examples"),
    )
    return attributions, deletions


@task(cache_policy=NO_CACHE)
def bound_curves(work: Plan, model: NestedModel, predictions: pl.DataFrame) -> pl.DataFrame:
    """The least and the greatest area that any ranking reaches, where the spec asks for them."""
    explanation = work.explanation
    if explanation is None or explanation.bounds_beam is None:
        return BOUNDS.frame([])
    prompts = [_prompt(work, model, encoded) for encoded in work.explained]
    levels = explanation.levels or work.levels
    get_run_logger().info(
        "bounds: a beam of %d asks about at most %d changed prompts, each level counted",
        explanation.bounds_beam,
        question_count(prompts, len(levels), explanation.bounds_beam, explanation),
    )
    return aopc_bounds(
        predictions,
        prompts,
        levels,
        explanation.bounds_beam,
        explanation,
        _reporter("bounds", "sizes"),
    )


@task(cache_policy=NO_CACHE, retries=2, retry_delay_seconds=5)
def write(settings: Settings, run: dict[str, Any], frames: dict[str, pl.DataFrame]) -> None:
    """Commit the run to the lake."""
    lake.write_run(settings.lake, run, frames)


@task(cache_policy=NO_CACHE)
def analyse_run(settings: Settings, run_id: str) -> None:
    """Compute the run's intervals, tests and correlations beside it."""
    analyse(settings.lake, run_id)


def publish_summary(settings: Settings, run_id: str) -> None:
    """Show the run's summary as a table artifact; the run is written, whatever happens here."""
    try:
        rows = views.query(
            settings.lake, f"select * exclude (run_id) from summary where run_id = '{run_id}'"
        )
    except LakeError as error:
        get_run_logger().warning("run %s is written, but not summed up: %s", run_id, error)
        return
    create_table_artifact(table=rows.to_dicts(), key="sweep-summary", description=run_id)


def layer_rows(run_id: str, order: RemovalOrder) -> pl.DataFrame:
    """Rows of `layers`."""
    rank = {layer: place for place, layer in enumerate(order.layers)}
    return LAYERS.frame(
        [
            {"run_id": run_id, "layer": layer, "importance": importance, "rank": rank[layer]}
            for layer, importance in enumerate(order.importance)
        ]
    )


def example_rows(run_id: str, work: Plan) -> pl.DataFrame:
    """Rows of `examples`."""
    return EXAMPLES.frame(
        [
            {
                "run_id": run_id,
                "example_id": encoded.example.example_id,
                "position": position,
                "prompt": encoded.example.prompt,
                "options": [*encoded.example.options],
                "gold": encoded.example.gold,
                "prompt_tokens": [*encoded.texts],
            }
            for position, encoded in enumerate(work.examples)
        ]
    )


def _prompt(work: Plan, model: NestedModel, encoded: Encoded) -> Prompt:
    def ask(questions: Any) -> list[NDArray[np.float64]]:
        queries = [
            Query(work.encoder.context(ids), encoded.options, levels) for ids, levels in questions
        ]
        return [probabilities(answer) for answer in model.log_likelihoods(queries)]

    def retokenised(ids: Any) -> Ids:
        return work.encoder.retokenised(ids)

    return Prompt(encoded.example.example_id, encoded.prompt, ask, retokenised)


def _reporter(stage: str, unit: str) -> Callable[[int, int], None]:
    """Report a stage's progress to the log and to Prefect, at most every few seconds."""
    logger = get_run_logger()
    artifact = create_progress_artifact(progress=0.0, description=stage)
    started = time.perf_counter()
    last = started

    def report(done: int, total: int) -> None:
        nonlocal last
        now = time.perf_counter()
        if done < total and now - last < SECONDS_BETWEEN_REPORTS:
            return
        last = now
        left = (now - started) / done * (total - done)
        logger.info("%s: %d of %d %s, about %.0f s left", stage, done, total, unit, left)
        update_progress(artifact, progress=100.0 * done / total)  # type: ignore[arg-type]  # annotated as UUID, given one

    return report


def _device_name(loaded: LoadedModel) -> str:
    device = loaded.model.device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
