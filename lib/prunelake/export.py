"""Export a model without its least important layers, with a card of what is known."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from prunelake import devices
from prunelake.card import Kind, Pruned, card, stored_dtype, unmeasured
from prunelake.checkpoint import refuse_taken, write
from prunelake.errors import InvalidSpec, UnknownLayer
from prunelake.importance import removal_order
from prunelake.measured import PastRun, agreeing, dtype_of, figures, past_runs
from prunelake.models import ModelSource, load
from prunelake.plan import plan
from prunelake.sources import resolve
from prunelake.spec import UNIT_NAMES, Calibration, Dtype, Rows, Settings, Strategy, SweepSpec
from prunelake.storage import Location


@dataclass(frozen=True)
class Order:
    """What is to be exported: which level of which order, from a run of the lake where it has one.

    `run` is the run to take the order from where several differ. `dtype` None is that of the runs,
    or float32. `calibration` is the text that an order is computed on which the lake lacks.
    """

    model: str
    strategy: Strategy
    level: int
    kind: Kind = Kind.portable
    dtype: Dtype | None = None
    run: str | None = None
    calibration: Calibration = field(default_factory=Calibration)


@dataclass(frozen=True)
class Exported:
    """What was written; `warning` says why nothing is known of it, if so."""

    pruned: Pruned
    weight_bytes: int
    warning: str | None


def export(order: Order, out: Path, settings: Settings, say: Callable[[str], None]) -> Exported:
    """Write a checkpoint and its card to a new folder, all or nothing.

    Raises:
        ExportError: as `checkpoint.write`.
        UnknownLayer: a level that the model does not have, or 0, which removes nothing.
        InvalidSpec: as `measured.agreeing` and `measured.dtype_of`.
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
    dtype = order.dtype or (dtype_of(runs[:1] if order.run else runs) if runs else "float32")
    if runs:
        layers = runs[0].removal_order[: order.level]
        origin = f"run {runs[0].run_id} of the lake"
    else:
        say(f"the lake {settings.lake} has no run of this model by {label}: computing its order")
        layers = _computed(order, source, dtype, settings, say)
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
    text = card(pruned, order.kind, runs, _figures(settings.lake, runs, order.level))
    size = write(source, layers, order.kind, out, text, stored_dtype(dtype), unit=unit)
    return Exported(pruned, size, unmeasured(pruned, runs))


def _computed(
    order: Order,
    source: ModelSource,
    dtype: Dtype,
    settings: Settings,
    say: Callable[[str], None],
) -> tuple[int, ...]:
    """The layers that a sweep of this model would remove.

    Raises:
        InvalidSpec: an order that is searched on examples, which are those of some task.
    """
    if order.strategy.reads_rows:
        raise InvalidSpec(
            f"an order by {order.strategy.label} is searched on examples of a task: sweep first, "
            "then export from the lake that has the run"
        )
    spec = SweepSpec(
        model=order.model,
        task="opinions",  # a plan is of some task; this one's rows are at hand
        rows=Rows(first=1),
        levels=(0, order.level),
        strategy=order.strategy,
        calibration=order.calibration,
        explain=None,
        dtype=dtype,
    )
    work = plan(spec, settings)
    device = devices.take(settings.device, settings.cache.expanduser(), say)
    model = load(source, dtype, device).model
    found = removal_order(model, order.strategy, work.windows, depth=order.level)
    return found.layers[: order.level]


def _text(order: Order) -> str:
    return order.calibration.source if order.strategy.reads_text else "none"


def _figures(lake: Location, runs: list[PastRun], level: int) -> pl.DataFrame:
    run_ids = [run.run_id for run in runs if level in run.levels]
    return figures(lake, run_ids, level) if run_ids else pl.DataFrame()
