"""Objects of a lake that are large enough to be read in blocks, with flipped bits."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from prunelake.lake.commit import write_run
from prunelake.lake.files import listed_file, verified
from prunelake.lake.sql import views
from prunelake.lake.storage import duckdb_filesystem
from prunelake.lake.storage.objects import ObjectPath
from tests.support.runs.lake_rows import identity_of, small_run

BLOCK_BYTES = 512

DAMAGED, WHOLE = (identity_of(name)[1] for name in ("damaged", "whole"))


@contextmanager
def large_object(lake: ObjectPath, lists_blocks: bool = True) -> Iterator[ObjectPath]:
    """The predictions of the first of two runs, in several blocks.

    Their manifest lists the hash of each block, unless `lists_blocks` is false.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duckdb_filesystem, "BLOCK_BYTES", BLOCK_BYTES)
        patch.setattr(listed_file, "BLOCK_BYTES", BLOCK_BYTES if lists_blocks else 2**30)
        patch.setattr(verified, "_damaged_objects", {})
        for name in ("damaged", "whole"):
            assert write_run(lake, *small_run(name))
        (path,) = (lake / "predictions").glob(f"{DAMAGED}.*")
        assert len(path.read_bytes()) > 3 * BLOCK_BYTES
        yield path


def flip_bit(path: ObjectPath, content: bytes, position: int) -> None:
    """Flip a bit of an object, as if this process had not read it before."""
    changed = bytearray(content)
    changed[position] ^= 1
    path.put(bytes(changed))
    verified._damaged_objects.clear()


def check_flipped_bits(lake: ObjectPath, flips: int, lists_blocks: bool = True) -> None:
    """Flip bits in all parts of a large object: SQL hides its run each time."""
    with large_object(lake, lists_blocks) as path:
        content = path.read_bytes()
        for position in range(7, len(content), len(content) // flips):
            flip_bit(path, content, position)
            rows = views.query(lake, "from lake.predictions")
            assert set(rows["run_id"]) == {WHOLE}, position
            assert views.query(lake, "select run_id from damaged_runs").rows() == [(DAMAGED,)]
        path.put(content)
        verified._damaged_objects.clear()
        rows = views.query(lake, "from lake.predictions")
        assert set(rows["run_id"]) == {DAMAGED, WHOLE}
