"""The headers of a model's safetensors files, which show damage without reading weights.

A file has eight bytes with the length of its header (little-endian), the header (JSON: dtype,
shape and place of each weight), and the weights. https://github.com/huggingface/safetensors
"""

import json
import math
from pathlib import Path

from prunelake.errors import ModelNotFound

MAX_HEADER_BYTES = 10**8
"""The limit of the format itself."""


def check_weight_files(folder: Path, reference: str, described: int | None) -> None:
    """Refuse damaged weight files, and files with far fewer weights than config.json describes.

    For weights that its files lack, transformers would first fill the memory with random ones.

    Args:
        folder: the saved model.
        reference: the model's name in the error.
        described: the number of weights by config.json; None if their number is not comparable.

    Raises:
        ModelNotFound: such files.
    """
    found = sum(_weight_count(file, reference) for file in sorted(folder.glob("*.safetensors")))
    if described is not None and found < described / 2:
        raise ModelNotFound(
            f"model {reference}: config.json describes {described:,} weights, and the "
            f"*.safetensors files in {folder} have {found:,}; fetch the folder again"
        )


def stored_bytes(folder: Path) -> int:
    """The bytes of the weights in the *.safetensors files of a folder, without the headers."""
    total = 0
    for file in folder.glob("*.safetensors"):
        with file.open("rb") as stream:
            header = 8 + int.from_bytes(stream.read(8), "little")
        total += file.stat().st_size - header
    return total


def _weight_count(file: Path, reference: str) -> int:
    """The number of weights in a file."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        text = stream.read(length) if length <= min(size, MAX_HEADER_BYTES) else b""
    try:
        header = json.loads(text)
        weights = [value for name, value in header.items() if name != "__metadata__"]
        end = 8 + length + max((weight["data_offsets"][1] for weight in weights), default=0)
        count: int = sum(math.prod(weight["shape"]) for weight in weights)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise _damaged(file, reference, "has no header of the format") from None
    if size < end:
        raise _damaged(file, reference, f"has {size:,} bytes, and its header describes {end:,}")
    return count


def _damaged(file: Path, reference: str, problem: str) -> ModelNotFound:
    return ModelNotFound(
        f"model {reference}: its weights cannot be read ({file.name} {problem}); fetch "
        f"{file.parent} again"
    )
