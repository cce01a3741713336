"""Export a model without its least important layers, with a card of what is known."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
from transformers import PreTrainedModel

from prunelake.errors import UnknownLayer
from prunelake.export.calibrator import FILE, Shipped, shipped
from prunelake.export.checkpoint import refuse_taken, write
from prunelake.export.model_card import Kind, Pruned, card, stored_dtype, unmeasured
from prunelake.lake.run_lookup import agreeing, costs, dtype_of, figures, past_runs
from prunelake.models import devices
from prunelake.models.loading import load
from prunelake.models.sources import resolve
from prunelake.settings import Settings
from prunelake.spec import UNIT_NAMES, Calibration, Dtype, Strategy
from prunelake.sweep.orders import computed_order


@dataclass(frozen=True)
class Order:
    """What is to be exported: which level of which order, from a run of the lake where it has one.

    `run` is the run to take the order from where several differ. `dtype` None is that of the runs,
    or float32. `calibration` is the text that an order is computed on which the lake lacks.
    `calibrator` is one of `cross_fitting.CALIBRATORS`, to be written beside the weights.
    """

    model: str
    strategy: Strategy
    level: int
    kind: Kind = Kind.portable
    dtype: Dtype | None = None
    run: str | None = None
    calibration: Calibration = field(default_factory=Calibration)
    calibrator: str | None = None


@dataclass(frozen=True)
class Exported:
    """What was written; `warning` says why nothing is known of it, if so."""

    pruned: Pruned
    weight_bytes: int
    warning: str | None
    calibrator: Shipped | None


def export(order: Order, out: Path, settings: Settings, say: Callable[[str], None]) -> Exported:
    """Write a checkpoint and its card to a new folder, all or nothing.

    Raises:
        ExportError: as `checkpoint.write`.
        UnknownLayer: a level that the model does not have, or 0, which removes nothing.
        InvalidSpec: as `run_lookup.agreeing` and `run_lookup.dtype_of`.
        InvalidCalibrator: as `calibrator.shipped`.
        ModelError, LakeError: as what it calls.
    """
    refuse_taken(out)
    unit = order.strategy.unit
    source = resolve(order.model, settings.cache.expanduser(), unit)
    if not 1 <= order.level <= source.layer_count:
        raise UnknownLayer(
            f"level {order.level}: the model has {source.layer_count} {UNIT_NAMES[unit]}, so that "
            f"levels to export go from 1 to {source.layer_count}"
        )
    label = order.strategy.label
    runs = agreeing(past_runs(settings.lake, source.revision, label), order.level, order.run)
    taken = None
    if order.calibrator is not None:
        taken = shipped(
            settings.lake, runs[:1] if order.run else runs, order.level, order.calibrator
        )
    dtype = order.dtype or (dtype_of(runs[:1] if order.run else runs) if runs else "float32")
    if runs:
        layers = runs[0].removal_order[: order.level]
        origin = f"run {runs[0].run_id} of the lake"
    else:
        say(f"the lake {settings.lake} has no run of this model by {label}: computing its order")

        def model() -> PreTrainedModel:
            device = devices.take(settings.device, settings.cache.expanduser(), say)
            return load(source, dtype, device).model

        found = computed_order(
            source, order.strategy, order.level, order.calibration, dtype, settings, model
        )
        layers = found[: order.level]
        origin = f"an order computed for this export (calibration text: {_text(order)})"
    pruned = Pruned(
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
        known = figures(settings.lake, run_ids, order.level)
        spent = costs(settings.lake, run_ids, order.level)
    text = card(pruned, order.kind, runs, known, spent)
    beside = {}
    if taken is not None:
        text += "\n".join(["", *taken.section()])
        beside[FILE] = taken.to_json()
    size = write(
        source, layers, order.kind, out, text, stored_dtype(dtype), unit=unit, beside=beside
    )
    return Exported(pruned, size, unmeasured(pruned, runs), taken)


def _text(order: Order) -> str:
    return order.calibration.source if order.strategy.reads_text else "none"
