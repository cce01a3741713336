"""Profile a model: find its removal order, measure each level here, write the lake."""

import os
from collections.abc import Callable
from functools import cache

from transformers import PreTrainedModel

from prunelake.frozen_value import Levels
from prunelake.lake.commit import check_writable, write_profile
from prunelake.lake.sql.run_lookup import PastRun, past_runs, runs_removing_same_layers
from prunelake.models.decoder.text_model import context_length
from prunelake.models.files.checkpoints import read_config
from prunelake.models.gpu.devices import acquire_device
from prunelake.models.levels import resolve_levels
from prunelake.models.loading import load_model
from prunelake.models.sources import resolve_model
from prunelake.profiling.measurement import Workload, check_measurable, measure_levels
from prunelake.profiling.record import ProfiledModel, profile_record, system_load_average
from prunelake.schema.profile_tables import MAX_LOAD_AVERAGE
from prunelake.settings import Settings
from prunelake.spec import DEFAULT_MODEL, Calibration, Dtype, FrozenValue, Strategy, number_format
from prunelake.sweeps.found_order import find_removal_order


class ProfileRequest(FrozenValue):
    """The request for a profile.

    - `levels`: by default the levels of the lake's runs, else every level up to half of the layers;
      level 0 is always measured.
    - `dtype`: by default the number format of the runs, else float32.
    - `run`: the id of the run whose removal order to take if several runs differ.
    - `calibration`: the text on which the order is computed if the lake has no run.
    """

    model: str = DEFAULT_MODEL
    strategy: Strategy = Strategy()
    levels: Levels | None = None
    dtype: Dtype | None = None
    run: str | None = None
    load: Workload = Workload()
    calibration: Calibration = Calibration()


def profile_model(request: ProfileRequest, settings: Settings, log: Callable[[str], None]) -> str:
    """Measure the cost of each level on this machine, write it to the lake; the profile's id.

    A GPU is locked while it is measured. The new profile replaces an earlier profile of the same
    revision, strategy, removal order, number format and device. Nothing is measured or written if
    the request, the model or the lake has a problem.

    Args:
        request: the model, the levels and the workload.
        settings: where the lake and the cache are, and which device to use.
        log: receives a line for each step, and a warning if the machine is busy.

    Raises:
        UnknownLayer: a level that the model does not have.
        InvalidSpec: as `find_removal_order` and `check_measurable`.
        ModelError, LakeError: the model, or the lake, cannot be used.
    """
    load_average = system_load_average()  # before this process adds to it
    unit = request.strategy.unit
    source = resolve_model(request.model, settings.cache.expanduser(), unit)
    past = past_runs(settings.lake, source.revision, request.strategy.label)
    runs = _matching_runs(request, past)
    run_levels = [level for run in runs for level in run.levels]
    deepest = source.deepest_level
    levels = resolve_levels(request.levels or run_levels or None, source.layer_count, unit, deepest)
    longest = context_length(read_config(source.folder).get_text_config())
    check_measurable(levels, source.layer_count, request.load, longest, unit, deepest)

    @cache  # a second copy of the model would count in the peak memory
    def load(dtype: Dtype) -> PreTrainedModel:
        device = acquire_device(settings.device, settings.lock_folder, log)
        return load_model(source, dtype, device).model

    order = find_removal_order(
        source,
        request.strategy,
        levels,
        runs,
        settings,
        load,
        log,
        chosen_run=request.run,
        dtype=request.dtype,
        calibration=request.calibration,
    )
    if order.runs:
        log(f"removal order of {order.origin}")
    model = load(order.dtype)
    check_writable(settings.lake)
    if load_average > MAX_LOAD_AVERAGE and model.device.type == "cpu":
        log(
            f"warning: {load_average:.1f} processes competed for {os.cpu_count()} cores over the "
            "last minute; measurements on a busy machine are worthless"
        )
    rows = measure_levels(model, order.layers, levels, request.load, log, unit)
    profiled = ProfiledModel(
        source.reference,
        source.revision,
        source.architecture,
        request.strategy,
        order.layers,
        number_format(source.quantisation, order.dtype),
    )
    row, frames = profile_record(profiled, model, request.load, load_average, rows)
    write_profile(settings.lake, row, frames)
    return str(row["profile_id"])


def _matching_runs(request: ProfileRequest, runs: list[PastRun]) -> list[PastRun]:
    """The requested run, or the runs in the requested number format, or all runs."""
    if request.run is not None:
        return runs_removing_same_layers(runs, 0, request.run)[:1]
    return [run for run in runs if run.dtype == request.dtype] or runs
