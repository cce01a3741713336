"""The header of a GGUF file, which shows damage without reading weights.

A file has a magic number, its version, the numbers of tensors and of metadata entries, these
entries, the name, shape, type and place of each tensor, and behind them the tensors.
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import math
import mmap
import struct
from functools import lru_cache
from pathlib import Path

from prunelake.errors import ModelNotFound

MAGIC, VERSIONS = b"GGUF", (2, 3)
VALUE_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""The bytes of a value by its type; the other types are strings and arrays."""

STRING, ARRAY = 8, 9
LENGTH = struct.Struct("<Q")
ENDS_EARLY = "it ends within its header"
ALIGNMENT_KEY = b"general.alignment"


def check_gguf_file(file: Path) -> None:
    """Refuse a file that is no GGUF file, or that ends before its tensors do.

    Raises:
        ModelNotFound: such a file.
    """
    state = file.stat()
    _check_unchanged_file(file, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=16)  # each sweep of a process asks again
def _check_unchanged_file(file: Path, size: int, mtime_ns: int) -> None:  # noqa: ARG001  # a key
    try:
        with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as m:
            end = _Header(m).tensor_end()
    except (ValueError, KeyError, IndexError) as error:
        raise ModelNotFound(
            f"model {file}: cannot be read as GGUF ({error or 'damaged header'})"
        ) from None
    if size < end:
        raise ModelNotFound(
            f"model {file}: cannot be read as GGUF (it has {size:,} bytes, and its header "
            f"describes {end:,}); fetch it again"
        )


class _Header:
    """Reads a header from its beginning to its end."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._place = 0
        self._alignment = 32

    def tensor_end(self) -> int:
        """The end of the last tensor, in bytes from the beginning of the file."""
        if self._take(4) != MAGIC:
            raise ValueError("it does not begin with GGUF")
        if (version := self._number(4)) not in VERSIONS:
            raise ValueError(f"its version is {version}")
        tensor_count, entry_count = self._number(8), self._number(8)
        for _ in range(entry_count):
            self._skip_entry()
        ends = [self._tensor_end() for _ in range(tensor_count)]
        start = -(-self._place // self._alignment) * self._alignment
        return start + max(ends) if ends else self._place

    def _skip_entry(self) -> None:
        key, kind = self._text(), self._number(4)
        if key == ALIGNMENT_KEY:
            self._alignment = self._number(4)
        else:
            self._skip_value(kind)

    def _skip_value(self, kind: int) -> None:
        if kind == STRING:
            self._text()
        elif kind == ARRAY:
            inner, count = self._number(4), self._number(8)
            if inner in VALUE_BYTES:
                self._take(count * VALUE_BYTES[inner])
            elif inner == STRING:
                self._skip_texts(count)
            else:
                for _ in range(count):
                    self._skip_value(inner)
        else:
            self._take(VALUE_BYTES[kind])

    def _skip_texts(self, count: int) -> None:
        """Skip the texts of an array: a vocabulary has 100,000 of them."""
        data, place = self._data, self._place
        try:
            for _ in range(count):
                place += LENGTH.size + LENGTH.unpack_from(data, place)[0]
        except (struct.error, OverflowError):
            raise ValueError(ENDS_EARLY) from None
        self._place = place

    def _tensor_end(self) -> int:
        """The end of the next tensor, counted from the beginning of the tensors."""
        from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

        self._text()
        shape = [self._number(8) for _ in range(self._number(4))]
        block, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(self._number(4))]
        return self._number(8) + math.prod(shape) // block * block_bytes

    def _text(self) -> bytes:
        return self._take(self._number(8))

    def _number(self, size: int) -> int:
        return int.from_bytes(self._take(size), "little")

    def _take(self, size: int) -> bytes:
        taken = self._data[self._place : self._place + size]
        if len(taken) < size:
            raise ValueError(ENDS_EARLY)
        self._place += size
        return taken
