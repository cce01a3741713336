"""Weight files that no model can load, for tests that never load them."""

import json
from pathlib import Path


def write_other_weights(file: Path, count: int) -> None:
    """Write a safetensors file with one weight of `count` bytes that no model has."""
    header = {"other": {"dtype": "U8", "shape": [count], "data_offsets": [0, count]}}
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + bytes(count))
