"""Export a model without the layers of one removal level, with a card of its evaluation."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
from transformers import PreTrainedModel

from prunelake.errors import ExportError, UnknownLayer
from prunelake.export.calibrator import CALIBRATOR_FILE, ExportedCalibrator, find_calibrator
from prunelake.export.card.model_card import (
    CARD_METRICS,
    CARD_TEXT_METRICS,
    ModelOrigin,
    PrunedModel,
    missing_evaluation,
    render_model_card,
)
from prunelake.export.checkpoint import MAX_SHARD_SIZE, check_output_folder, write_checkpoint
from prunelake.export.gguf.gguf_file import GGUF_FILE
from prunelake.export.gguf.llama_cpp import tensor_formats
from prunelake.export.origin import model_origin
from prunelake.extras import require_extra
from prunelake.lake.sql.run_lookup import (
    level_costs,
    level_metrics,
    level_text,
    past_runs,
    runs_removing_same_layers,
)
from prunelake.models.files.saved_config import read_config_file
from prunelake.models.gpu.devices import acquire_device
from prunelake.models.levels import resolve_levels
from prunelake.models.loading import load_model
from prunelake.models.sources import resolve_model
from prunelake.settings import Settings
from prunelake.spec import (
    Calibration,
    CheckpointKind,
    Dtype,
    GgufQuantisation,
    Strategy,
    removed_parts,
    weight_format,
)
from prunelake.sweeps.found_order import find_removal_order


@dataclass(frozen=True)
class ExportRequest:
    """A request to export one level of a model.

    - `run`: the id of the run whose removal order counts if the lake's runs have several.
    - `dtype`: by default the number format of the runs, else float32.
    - `calibration`: the text on which the order is computed if the lake has no run.
    - `quantisation`: the number format of the matrices in a GGUF file, if not `dtype`.
    - `max_shard_size`: the largest file of weights, such as `5GB`.
    - `license`, `base_model`: for the metadata of the card, if the model does not state them.
    - `with_code`: whether a compact checkpoint has the code by which transformers loads it.
    - `calibrator`: one of `schema.calibrators.CALIBRATOR_NAMES`, to be written beside the weights.
    """

    model: str
    strategy: Strategy
    level: int
    kind: CheckpointKind = CheckpointKind.portable
    dtype: Dtype | None = None
    run: str | None = None
    calibration: Calibration = field(default_factory=Calibration)
    calibrator: str | None = None
    quantisation: GgufQuantisation | None = None
    max_shard_size: str = MAX_SHARD_SIZE
    license: str = ""
    base_model: str = ""
    with_code: bool = False


@dataclass(frozen=True)
class ExportResult:
    """The exported model; `warning` says why the lake has no evaluation of this level, if so."""

    pruned: PrunedModel
    weight_bytes: int
    warning: str | None
    calibrator: ExportedCalibrator | None


def export_model(
    request: ExportRequest, out: Path, settings: Settings, log: Callable[[str], None]
) -> ExportResult:
    """Write a checkpoint and its model card to the new folder `out`, all or nothing.

    Args:
        request: the model, the level and the form of the checkpoint.
        out: a path that does not exist, or an empty folder.
        settings: the lake, the cache and the device.
        log: receives a line for each step.

    Raises:
        MissingExtra: no llama.cpp for `q4_k_m`.
        ExportError: as `write_checkpoint`; or the weights are quantised; or a compact checkpoint
            without experts.
        UnknownLayer: level 0, which removes nothing, or a level that the model does not have.
        InvalidSpec: as `find_removal_order`.
        InvalidCalibrator: as `find_calibrator`.
        ModelError, LakeError: the model, or the lake, cannot be used.
    """
    check_output_folder(out)
    strategy, level = request.strategy, request.level
    source = resolve_model(request.model, settings.cache.expanduser(), strategy.unit)
    if source.quantisation:
        raise ExportError(
            f"model {source.reference} is quantised ({source.quantisation}), and zeros cannot be "
            "written into packed weights; export the model that it was made from, and quantise the "
            "checkpoint"
        )
    deepest = source.deepest_level
    resolve_levels((level,), source.layer_count, strategy.unit, deepest)
    if level == 0:
        last = deepest or source.layer_count
        raise UnknownLayer(f"level 0 removes nothing; levels to export go from 1 to {last}")
    if request.quantisation is not None and request.kind is not CheckpointKind.gguf:
        raise ExportError(
            f"--quantize {request.quantisation} is a number format of GGUF; give --kind gguf, or "
            "quantise the checkpoint with a tool of its runtime"
        )
    if request.quantisation is GgufQuantisation.q4_k_m:
        require_extra("llama-cpp")
    if request.with_code and request.kind is not CheckpointKind.compact:
        raise ExportError(
            f"--with-code is for --kind compact; a {request.kind} checkpoint needs no code of "
            "PruneLake"
        )
    if strategy.unit == "expert" and request.kind is not CheckpointKind.portable:
        raise ExportError(
            "a portable checkpoint holds no weights of removed experts, and is a plain model; take "
            "--kind portable"
        )
    past = past_runs(settings.lake, source.revision, strategy.label)
    runs = runs_removing_same_layers(past, level, request.run)
    calibrator = None
    if request.calibrator is not None:
        calibrator = find_calibrator(
            settings.lake, runs[:1] if request.run else runs, level, request.calibrator
        )

    def load(dtype: Dtype) -> PreTrainedModel:
        device = acquire_device(settings.device, settings.lock_folder, log)
        return load_model(source, dtype, device).model

    order = find_removal_order(
        source,
        strategy,
        (level,),
        runs,
        settings,
        load,
        log,
        chosen_run=request.run,
        dtype=request.dtype,
        calibration=request.calibration,
    )
    pruned = PrunedModel(
        source.reference,
        source.revision,
        source.architecture,
        str(read_config_file(source.folder / "config.json").get("model_type")),
        source.layer_count,
        strategy.label,
        strategy.unit,
        level,
        removed_parts(order.layers, level, source.layer_count),
        order.origin,
        order.dtype,
    )
    run_ids = [run.run_id for run in runs if level in run.levels]
    metrics = costs = pl.DataFrame()
    text = None
    if run_ids:
        names = (*CARD_METRICS, *CARD_TEXT_METRICS)
        metrics = level_metrics(settings.lake, run_ids, level, names)
        text = level_text(settings.lake, run_ids, level)
        costs = level_costs(settings.lake, run_ids, level)
    found = model_origin(request.model, settings.cache.expanduser())
    origin = ModelOrigin(request.base_model or found.base_model, request.license or found.license)
    card = render_model_card(
        pruned,
        request.kind,
        runs,
        metrics,
        costs,
        origin,
        request.quantisation,
        text,
        request.with_code,
    )
    extra_files = {}
    if calibrator is not None:
        card += "\n".join(["", *calibrator.card_section()])
        extra_files[CALIBRATOR_FILE] = calibrator.to_json()
    weight_bytes = write_checkpoint(
        source,
        pruned.layers,
        request.kind,
        out,
        card,
        weight_format(order.dtype),
        unit=strategy.unit,
        extra_files=extra_files,
        quantisation=request.quantisation,
        max_shard_size=request.max_shard_size,
        with_code=request.with_code,
    )
    if request.quantisation is GgufQuantisation.q4_k_m:
        formats = tensor_formats(out / GGUF_FILE)
        log(
            "llama.cpp chose the formats by tensor and length of rows: "
            + "; ".join(f"{name} for {', '.join(tensors)}" for name, tensors in formats.items())
        )
    return ExportResult(pruned, weight_bytes, missing_evaluation(pruned, runs), calibrator)
