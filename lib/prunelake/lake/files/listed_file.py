"""A data file as a manifest lists it: its size and its hashes."""

import hashlib

from prunelake.frozen_value import FrozenValue
from prunelake.lake.storage.objects import BLOCK_BYTES


class ListedFile(FrozenValue):
    """A data file: its number of rows, its size in bytes, and its SHA-256 (hex).

    `blocks` has the SHA-256 of each `BLOCK_BYTES` of a file that has more than one block. Manifests
    of earlier versions have none.
    """

    rows: int
    size: int
    sha256: str
    blocks: tuple[str, ...] = ()


def list_file(content: bytes, rows: int) -> ListedFile:
    """A data file with this content, as a manifest lists it."""
    starts = range(0, len(content), BLOCK_BYTES) if len(content) > BLOCK_BYTES else ()
    blocks = tuple(hex_digest(content[start : start + BLOCK_BYTES]) for start in starts)
    return ListedFile(rows=rows, size=len(content), sha256=hex_digest(content), blocks=blocks)


def hex_digest(content: bytes) -> str:
    """The SHA-256 of some bytes, in hex."""
    return hashlib.sha256(content).hexdigest()
