"""The levels of a model: which ones a request takes. Nothing here loads torch."""

import re
from collections.abc import Collection
from pathlib import Path

from prunelake.errors import UnknownLayer
from prunelake.models.files.saved_config import check_config, saved_config
from prunelake.models.references import check_reference, package_file
from prunelake.spec import UNIT_NAMES, Unit

GGUF_HEADER_BYTES = 2**16
GGUF_LAYER_COUNT = re.compile(rb"\.block_count\x04\x00\x00\x00(.{4})", re.DOTALL)
"""A key in the header of a GGUF file, its type (uint32) and its value, little-endian."""

LAYER_COUNT_NAMES = ("num_hidden_layers", "n_layer", "num_layers")
"""The names of the number of layers in the config.json of different models."""


EXPERT_COUNT_NAMES = (
    *("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"),
    *("moe_num_routed_experts", "num_routed_experts"),
)
"""The names of the number of experts of each block in the config.json of different models."""

DEFAULT_EXPERT_LEVELS = 8
"""The least number of default levels above 0, up to half of the experts, if there are that many.
Levels that lack experts share little work."""


def resolve_levels(
    levels: Collection[int] | None, layer_count: int, unit: Unit, deepest: int | None = None
) -> tuple[int, ...]:
    """The given levels, ascending and with 0; by default levels up to half of the layers.

    By default these are all levels, or for the unit expert every n-th level.

    Args:
        levels: the levels of a request.
        layer_count: the number of layers, or of experts in each block.
        unit: the part that is removed.
        deepest: the deepest level; None means `layer_count`.

    Raises:
        UnknownLayer: a level outside 0 to the deepest one.
    """
    last = layer_count if deepest is None else deepest
    if levels is None:
        half = min(layer_count // 2, last)
        step = max(1, half // DEFAULT_EXPERT_LEVELS) if unit == "expert" else 1
        return tuple(range(0, half + 1, step))
    for level in levels:
        if not 0 <= level <= last:
            known = f"the model has {layer_count} {UNIT_NAMES[unit]}"
            if last < layer_count:
                known += f", of which a router chooses {layer_count - last} for each token"
            raise UnknownLayer(f"level {level}: {known}; levels go from 0 to {last}")
    return tuple(sorted({0, *levels}))


def check_levels(
    reference: str,
    levels: Collection[int] | None,
    unit: Unit,
    trust_remote_code: bool = False,
) -> None:
    """Refuse a model reference or levels that cannot be right, from files on this machine alone.

    A model that has to be fetched first, and one that lacks the unit in some of its layers, are
    checked again when the model is resolved.

    Raises:
        ModelNotFound: as `references.check_reference`.
        ModelError: as `saved_config.check_config`.
        UnknownLayer: a level above the number of layers.
    """
    check_reference(reference)
    check_config(saved_config(reference), reference, trust_remote_code)
    layer_count = _layer_count(reference, unit)
    if levels is not None and layer_count is not None:
        resolve_levels(levels, layer_count, unit)


def _layer_count(reference: str, unit: Unit) -> int | None:
    """The number of layers, or of experts in each block, that the files of a model name.

    None if the files cannot be read here.
    """
    if unit == "expert" and (".gguf" in reference or reference.startswith("package:")):
        return None  # the file names its blocks, and is checked again when the model is resolved
    if reference.startswith("package:"):
        return _gguf_layer_count(package_file(reference)) if "/" in reference else None
    if reference.endswith(".gguf") and not reference.startswith("hub:"):
        return _gguf_layer_count(Path(reference).expanduser())
    config = saved_config(reference)
    config = config.get("text_config") or config  # multimodal models nest it
    names = EXPERT_COUNT_NAMES if unit == "expert" else LAYER_COUNT_NAMES
    counts = [config[name] for name in names if isinstance(config.get(name), int)]
    return counts[0] if counts else None


def _gguf_layer_count(file: Path) -> int | None:
    with file.open("rb") as stream:
        found = GGUF_LAYER_COUNT.search(stream.read(GGUF_HEADER_BYTES))
    return int.from_bytes(found[1], "little") if found else None
