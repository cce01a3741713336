"""Export a model without its least important layers, with a card of what is known."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
from transformers import PreTrainedModel

from prunelake.errors import UnknownLayer
from prunelake.export.calibrator import CALIBRATOR_FILE, ExportedCalibrator, find_calibrator
from prunelake.export.checkpoint import check_output_folder, write_checkpoint
from prunelake.export.model_card import (
    CARD_METRICS,
    CheckpointKind,
    PrunedModel,
    missing_evaluation,
    render_model_card,
    weight_format,
)
from prunelake.lake.run_lookup import (
    level_costs,
    level_metrics,
    past_runs,
    runs_removing_same_layers,
    shared_dtype,
)
from prunelake.models import devices
from prunelake.models.loading import load_model
from prunelake.models.sources import resolve_model
from prunelake.settings import Settings
from prunelake.spec import UNIT_NAMES, Calibration, Dtype, Strategy
from prunelake.sweep.orders import compute_removal_order


@dataclass(frozen=True)
class ExportRequest:
    """What is to be exported: which level of which order, from a run of the lake where it has one.

    `run` is the run to take the order from where several differ. `dtype` None is that of the runs,
    or float32. `calibration` is the text that an order is computed on which the lake lacks.
    `calibrator` is one of `cross_fitting.CALIBRATOR_NAMES`, to be written beside the weights.
    """

    model: str
    strategy: Strategy
    level: int
    kind: CheckpointKind = CheckpointKind.portable
    dtype: Dtype | None = None
    run: str | None = None
    calibration: Calibration = field(default_factory=Calibration)
    calibrator: str | None = None


@dataclass(frozen=True)
class ExportResult:
    """What was written; `warning` says why nothing is known of it, if so."""

    pruned: PrunedModel
    weight_bytes: int
    warning: str | None
    calibrator: ExportedCalibrator | None


def export_model(
    order: ExportRequest, out: Path, settings: Settings, say: Callable[[str], None]
) -> ExportResult:
    """Write a checkpoint and its card to a new folder, all or nothing.

    Raises:
        ExportError: as `checkpoint.write_checkpoint`.
        UnknownLayer: a level that the model does not have, or 0, which removes nothing.
        InvalidSpec: as `run_lookup.runs_removing_same_layers` and `run_lookup.shared_dtype`.
        InvalidCalibrator: as `calibrator.find_calibrator`.
        ModelError, LakeError: as what it calls.
    """
    check_output_folder(out)
    unit = order.strategy.unit
    source = resolve_model(order.model, settings.cache.expanduser(), unit)
    if not 1 <= order.level <= source.layer_count:
        raise UnknownLayer(
            f"level {order.level}: the model has {source.layer_count} {UNIT_NAMES[unit]}, so that "
            f"levels to export go from 1 to {source.layer_count}"
        )
    label = order.strategy.label
    runs = runs_removing_same_layers(
        past_runs(settings.lake, source.revision, label), order.level, order.run
    )
    taken = None
    if order.calibrator is not None:
        taken = find_calibrator(
            settings.lake, runs[:1] if order.run else runs, order.level, order.calibrator
        )
    dtype = order.dtype or (shared_dtype(runs[:1] if order.run else runs) if runs else "float32")
    if runs:
        layers = runs[0].removal_order[: order.level]
        origin = f"run {runs[0].run_id} of the lake"
    else:
        say(f"the lake {settings.lake} has no run of this model by {label}: computing its order")

        def model() -> PreTrainedModel:
            device = devices.acquire_device(settings.device, settings.cache.expanduser(), say)
            return load_model(source, dtype, device).model

        found = compute_removal_order(
            source, order.strategy, order.level, order.calibration, dtype, settings, model
        )
        layers = found[: order.level]
        origin = (
            f"an order computed for this export (calibration text: {_calibration_source(order)})"
        )
    pruned = PrunedModel(
        source.reference,
        source.revision,
        source.architecture,
        source.layer_count,
        label,
        unit,
        order.level,
        layers,
        origin,
        dtype,
    )
    run_ids = [run.run_id for run in runs if order.level in run.levels]
    known = spent = pl.DataFrame()
    if run_ids:
        known = level_metrics(settings.lake, run_ids, order.level, CARD_METRICS)
        spent = level_costs(settings.lake, run_ids, order.level)
    text = render_model_card(pruned, order.kind, runs, known, spent)
    beside = {}
    if taken is not None:
        text += "\n".join(["", *taken.card_section()])
        beside[CALIBRATOR_FILE] = taken.to_json()
    size = write_checkpoint(
        source, layers, order.kind, out, text, weight_format(dtype), unit=unit, beside=beside
    )
    return ExportResult(pruned, size, missing_evaluation(pruned, runs), taken)


def _calibration_source(order: ExportRequest) -> str:
    return order.calibration.source if order.strategy.reads_text else "none"
