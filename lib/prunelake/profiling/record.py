"""The rows of the lake for a measured model: its profile, and the cost of each level."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import polars as pl
import torch
from transformers import PreTrainedModel

from prunelake.identity import content_hash
from prunelake.models.decoder.level_range import level_range
from prunelake.models.gpu.devices import device_name
from prunelake.models.gpu.placement import model_devices
from prunelake.profiling.measurement import Workload
from prunelake.schema.profile_tables import EFFICIENCY, PROFILE_SUBJECT
from prunelake.spec import Strategy


@dataclass(frozen=True)
class ProfiledModel:
    """A model and its removal order (`spec.removed_parts`)."""

    reference: str
    revision: str
    architecture: str
    strategy: Strategy
    order: tuple[int, ...]
    dtype: str


def profile_record(
    profiled: ProfiledModel,
    model: PreTrainedModel,
    workload: Workload,
    load_average: float,
    rows: Sequence[dict[str, Any]],
) -> tuple[dict[str, Any], dict[str, pl.DataFrame]]:
    """The arguments of `commit.write_profile`: the row of `profiles` and the frame of `efficiency`.

    `rows` come from `measure_levels`; `load_average` is the machine's load before measuring.
    """
    row: dict[str, Any] = {
        "created_at": datetime.now(UTC),
        "model": profiled.reference,
        "revision": profiled.revision,
        "architecture": profiled.architecture,
        "strategy": profiled.strategy.label,
        "layer_count": level_range(model, profiled.strategy.unit).layer_count,
        "removal_order": [*profiled.order],
        "levels": [level_row["level"] for level_row in rows],
        "dtype": profiled.dtype,
        "device": str(model.device),
        "device_name": device_name(*model_devices(model)),
        "threads": torch.get_num_threads(),
        "load_average": load_average,
        "torch_version": torch.__version__,
        "code_version": version("prunelake"),
        **workload.model_dump(),
    }
    identity = {name: row[name] for name in PROFILE_SUBJECT}
    profile_id = content_hash(identity | {"created_at": row["created_at"].isoformat()})[:16]
    frame = EFFICIENCY.frame([{"profile_id": profile_id, **level_row} for level_row in rows])
    return {"profile_id": profile_id, **row}, {"efficiency": frame}


def system_load_average() -> float:
    """The average number of processes of this machine that wanted a core over the last minute."""
    return os.getloadavg()[0]
