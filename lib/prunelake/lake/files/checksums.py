"""SHA-256 checksums of the files of a lake.

A manifest lists the checksums of its data files. No file lists the checksum of a manifest, so a
manifest has its own checksum in its Parquet metadata. It is the SHA-256 of its bytes with
`EMPTY_CHECKSUM` in this place.
"""

import hashlib

from prunelake.lake.storage.location import Location
from prunelake.lake.storage.objects import ObjectPath

CHECKSUM_KEY = "prunelake.sha256"
"""The key of a manifest's checksum in its Parquet metadata."""

EMPTY_CHECKSUM = "0" * 64

CHECKSUM_DIFFERS = "its bytes have changed since it was written (SHA-256 differs)"


def sha256(path: Location) -> str:
    """The SHA-256 (hex) of the bytes of a file."""
    if isinstance(path, ObjectPath):
        return hashlib.sha256(path.read_bytes()).hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def insert_checksum(content: bytes) -> bytes:
    """The bytes of a manifest with its checksum in place of `EMPTY_CHECKSUM`."""
    return _replace_last(content, EMPTY_CHECKSUM, hashlib.sha256(content).hexdigest())


def matches_checksum(content: bytes, checksum: str) -> bool:
    """Whether the checksum of a manifest was computed from these bytes."""
    original = _replace_last(content, checksum, EMPTY_CHECKSUM)
    return hashlib.sha256(original).hexdigest() == checksum


def _replace_last(content: bytes, old: str, new: str) -> bytes:
    # The metadata comes after the rows, and rows may contain the same text.
    before, _, after = content.rpartition(old.encode())
    return before + new.encode() + after
