"""Profile a model: what each level of a removal order costs here, from the order to the lake."""

import os
from collections.abc import Callable, Sequence
from functools import cache

from transformers import PreTrainedModel

from prunelake.errors import UnknownLayer
from prunelake.lake import commit
from prunelake.lake.run_lookup import PastRun, past_runs, runs_removing_same_layers, shared_dtype
from prunelake.models import devices
from prunelake.models.loading import load_model, read_config
from prunelake.models.sources import resolve_model
from prunelake.profiling.measurement import (
    ProfiledModel,
    Workload,
    check_measurable,
    measure_levels,
    profile_record,
    system_load_average,
)
from prunelake.settings import Settings
from prunelake.spec import (
    DEFAULT_MODEL,
    UNIT_NAMES,
    Calibration,
    Dtype,
    FrozenValue,
    Levels,
    Strategy,
    Unit,
)
from prunelake.sweep.orders import compute_removal_order

MAX_LOAD_AVERAGE = 0.5
"""More processes than that, on average over a minute, take cores from what is measured on a CPU."""


class ProfileRequest(FrozenValue):
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
    load: Workload = Workload()
    calibration: Calibration = Calibration()


def profile_model(wanted: ProfileRequest, settings: Settings, say: Callable[[str], None]) -> str:
    """Measure what the levels cost on this machine's device, alone on a GPU; the profile's id.

    `say` is told what is done, and that the machine is busy if so: its numbers are then worthless.
    It replaces an earlier profile of the same revision, removal order, number format and device.
    Whatever can be wrong is found before anything is measured, and nothing is written then.

    Raises:
        UnknownLayer: a level that the model does not have.
        InvalidSpec: as `run_lookup.runs_removing_same_layers`, `run_lookup.shared_dtype`,
            `orders.compute_removal_order`, `check_measurable`.
        ModelError, LakeError: as what it calls.
    """
    load_average = system_load_average()  # before anything of ours computes
    source = resolve_model(wanted.model, settings.cache.expanduser(), wanted.strategy.unit)
    runs = _matching_runs(wanted, past_runs(settings.lake, source.revision, wanted.strategy.label))
    levels = _resolve_levels(wanted.levels, runs, source.layer_count, wanted.strategy.unit)
    for level in levels:
        runs = runs_removing_same_layers(runs, level, wanted.run)
    dtype = wanted.dtype or (shared_dtype(runs) if runs else "float32")
    context = read_config(source.folder).get_text_config().max_position_embeddings
    check_measurable(levels, range(source.layer_count), wanted.load, context)

    @cache  # two would not only take twice the time: the peak memory would be that of two
    def loaded() -> PreTrainedModel:
        device = devices.acquire_device(settings.device, settings.cache.expanduser(), say)
        return load_model(source, dtype, device).model

    if runs:
        order = runs[0].removal_order
        say(f"removal order of run {runs[0].run_id} of the lake")
    else:
        label = wanted.strategy.label
        say(f"the lake {settings.lake} has no run of this model by {label}: computing its order")
        order = compute_removal_order(
            source, wanted.strategy, levels[-1], wanted.calibration, dtype, settings, loaded
        )
    model = loaded()
    commit.check_writable(settings.lake)
    if load_average > MAX_LOAD_AVERAGE and model.device.type == "cpu":
        say(
            f"warning: {load_average:.1f} processes wanted one of {os.cpu_count()} cores over the "
            "last minute; numbers of a busy machine are worthless"
        )
    rows = measure_levels(model, order, levels, wanted.load, say, wanted.strategy.unit)
    subject = ProfiledModel(
        source.reference,
        source.revision,
        source.architecture,
        wanted.strategy,
        order,
        dtype,
    )
    row, frames = profile_record(subject, model, wanted.load, load_average, rows)
    commit.write_profile(settings.lake, row, frames)
    return str(row["profile_id"])


def _matching_runs(wanted: ProfileRequest, runs: list[PastRun]) -> list[PastRun]:
    """The runs whose order may be meant: the chosen one, else those of the number format if any."""
    if wanted.run is not None:
        return runs_removing_same_layers(runs, 0, wanted.run)[:1]
    return [run for run in runs if run.dtype == wanted.dtype] or runs


def _resolve_levels(
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
