"""Profile a model: what each level of a removal order costs here, from the order to the lake."""

import os
from collections.abc import Callable, Sequence
from functools import cache

from transformers import PreTrainedModel

from prunelake.errors import UnknownLayer
from prunelake.lake import commit
from prunelake.lake.run_lookup import PastRun, agreeing, dtype_of, past_runs
from prunelake.models import devices
from prunelake.models.loading import config_of, load
from prunelake.models.sources import resolve
from prunelake.profiling.measurement import Load, Subject, busy, check, measure, profile_of
from prunelake.settings import Settings
from prunelake.spec import (
    DEFAULT_MODEL,
    UNIT_NAMES,
    Calibration,
    Dtype,
    Frozen,
    Levels,
    Strategy,
    Unit,
)
from prunelake.sweep.orders import computed_order

BUSY = 0.5
"""More processes than that, on average over a minute, take cores from what is measured on a CPU."""


class Wanted(Frozen):
    """What is to be measured, by the removal order of the lake's runs where it has some.

    `levels` None are those of the runs, else every one up to half of the layers; level 0 is always
    measured. `dtype` None is that of the runs, or float32. `run` is the run to take the order from
    where several differ. `calibration` is the text that an order is computed on which the lake
    lacks.
    """

    model: str = DEFAULT_MODEL
    strategy: Strategy = Strategy()
    levels: Levels | None = None
    dtype: Dtype | None = None
    run: str | None = None
    load: Load = Load()
    calibration: Calibration = Calibration()


def profile(wanted: Wanted, settings: Settings, say: Callable[[str], None]) -> str:
    """Measure what the levels cost on this machine's device, alone on a GPU; the profile's id.

    `say` is told what is done, and that the machine is busy if so: its numbers are then worthless.
    It replaces an earlier profile of the same revision, removal order, number format and device.
    Whatever can be wrong is found before anything is measured, and nothing is written then.

    Raises:
        UnknownLayer: a level that the model does not have.
        InvalidSpec: as `run_lookup.agreeing`, `run_lookup.dtype_of`, `orders.computed_order`, `check`.
        ModelError, LakeError: as what it calls.
    """
    load_average = busy()  # before anything of ours computes
    source = resolve(wanted.model, settings.cache.expanduser(), wanted.strategy.unit)
    runs = _runs(wanted, past_runs(settings.lake, source.revision, wanted.strategy.label))
    levels = _levels(wanted.levels, runs, source.layer_count, wanted.strategy.unit)
    for level in levels:
        runs = agreeing(runs, level, wanted.run)
    dtype = wanted.dtype or (dtype_of(runs) if runs else "float32")
    context = config_of(source.folder).get_text_config().max_position_embeddings
    check(levels, range(source.layer_count), wanted.load, context)

    @cache  # two would not only take twice the time: the peak memory would be that of two
    def loaded() -> PreTrainedModel:
        device = devices.take(settings.device, settings.cache.expanduser(), say)
        return load(source, dtype, device).model

    if runs:
        order = runs[0].removal_order
        say(f"removal order of run {runs[0].run_id} of the lake")
    else:
        label = wanted.strategy.label
        say(f"the lake {settings.lake} has no run of this model by {label}: computing its order")
        order = computed_order(
            source, wanted.strategy, levels[-1], wanted.calibration, dtype, settings, loaded
        )
    model = loaded()
    commit.check_writable(settings.lake)
    if load_average > BUSY and model.device.type == "cpu":
        say(
            f"warning: {load_average:.1f} processes wanted one of {os.cpu_count()} cores over the "
            "last minute; numbers of a busy machine are worthless"
        )
    rows = measure(model, order, levels, wanted.load, say, wanted.strategy.unit)
    subject = Subject(
        source.reference,
        source.revision,
        source.architecture,
        wanted.strategy,
        order,
        dtype,
    )
    row, frames = profile_of(subject, model, wanted.load, load_average, rows)
    commit.write_profile(settings.lake, row, frames)
    return str(row["profile_id"])


def _runs(wanted: Wanted, runs: list[PastRun]) -> list[PastRun]:
    """The runs whose order may be meant: the chosen one, else those of the number format if any."""
    if wanted.run is not None:
        return agreeing(runs, 0, wanted.run)[:1]
    return [run for run in runs if run.dtype == wanted.dtype] or runs


def _levels(
    levels: Sequence[int] | None, runs: Sequence[PastRun], layer_count: int, unit: Unit
) -> tuple[int, ...]:
    """Ascending, with 0."""
    if levels is None:
        levels = [level for run in runs for level in run.levels] or range(layer_count // 2 + 1)
    found = tuple(sorted({0, *levels}))
    if found[-1] > layer_count:
        raise UnknownLayer(
            f"level {found[-1]}: the model has {layer_count} {UNIT_NAMES[unit]}, so that levels go "
            f"from 0 to {layer_count}"
        )
    return found
