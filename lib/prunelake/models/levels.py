"""The levels of a model: which ones a request takes. Nothing here loads torch."""

import re
from collections.abc import Collection
from pathlib import Path

from prunelake.errors import UnknownLayer
from prunelake.models.references import check_reference, package_file
from prunelake.models.saved_config import check_config, saved_config
from prunelake.spec import UNIT_NAMES, Unit

GGUF_HEADER_BYTES = 2**16
GGUF_LAYER_COUNT = re.compile(rb"\.block_count\x04\x00\x00\x00(.{4})", re.DOTALL)
"""A key in the header of a GGUF file, its type (uint32) and its value, little-endian."""

LAYER_COUNT_NAMES = ("num_hidden_layers", "n_layer", "num_layers")
"""The names of the number of layers in the config.json of different models."""


def resolve_levels(levels: Collection[int] | None, layer_count: int, unit: Unit) -> tuple[int, ...]:
    """The given levels, ascending and with 0; by default every level up to half of the layers.

    Raises:
        UnknownLayer: a level outside 0 to `layer_count`.
    """
    if levels is None:
        return tuple(range(layer_count // 2 + 1))
    for level in levels:
        if not 0 <= level <= layer_count:
            raise UnknownLayer(
                f"level {level}: the model has {layer_count} {UNIT_NAMES[unit]}; levels go from 0 "
                f"to {layer_count}"
            )
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
    layer_count = _layer_count(reference)
    if levels is not None and layer_count is not None:
        resolve_levels(levels, layer_count, unit)


def _layer_count(reference: str) -> int | None:
    """The number of layers that the files of a model name; None if they cannot be read here."""
    if reference.startswith("package:"):
        return _gguf_layer_count(package_file(reference)) if "/" in reference else None
    if reference.endswith(".gguf") and not reference.startswith("hub:"):
        return _gguf_layer_count(Path(reference).expanduser())
    config = saved_config(reference)
    config = config.get("text_config") or config  # of a multimodal model
    counts = [config[name] for name in LAYER_COUNT_NAMES if isinstance(config.get(name), int)]
    return counts[0] if counts else None


def _gguf_layer_count(file: Path) -> int | None:
    with file.open("rb") as stream:
        found = GGUF_LAYER_COUNT.search(stream.read(GGUF_HEADER_BYTES))
    return int.from_bytes(found[1], "little") if found else None
