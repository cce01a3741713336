"""Objects that SQL reads in blocks: damage, threads, and the cache."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pytest

from prunelake.lake.files.paths import SNAPSHOT_FILE
from prunelake.lake.publish import publish
from prunelake.lake.storage import duckdb_filesystem
from tests.support.endurance import repeats
from tests.support.object_stores.large_objects import (
    DAMAGED,
    WHOLE,
    check_flipped_bits,
    flip_bit,
    large_object,
)
from tests.support.object_stores.object_store import before_every_request, new_lake

pytestmark = pytest.mark.usefixtures("object_store")


@pytest.mark.parametrize("lists_blocks", [True, False])
def test_a_flipped_bit_in_a_large_object_never_becomes_a_number(lists_blocks: bool) -> None:
    check_flipped_bits(new_lake(), repeats(2, 8), lists_blocks)


def test_a_snapshot_leaves_out_a_damaged_large_object(tmp_path: Path) -> None:
    lake = new_lake()
    with large_object(lake) as path:
        flip_bit(path, path.read_bytes(), 700)
        publish(lake, lambda _, __: None)
    (lake / SNAPSHOT_FILE).download(tmp_path / SNAPSHOT_FILE)
    with duckdb.connect(tmp_path / SNAPSHOT_FILE, read_only=True) as snapshot:
        assert snapshot.sql("select distinct run_id from lake.predictions").fetchall() == [(WHOLE,)]
        assert snapshot.sql("select run_id from damaged_runs").fetchall() == [(DAMAGED,)]


def no_check(*_: object) -> None:
    """Stands for `BlockChecks`: no manifest lists the object."""


def test_threads_that_share_an_open_object_read_their_own_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(duckdb_filesystem, "BLOCK_BYTES", 4)
    path = new_lake() / "object"
    path.put(b"0123456789")
    shared = duckdb_filesystem.ObjectStoreFileSystem(no_check).open(str(path))
    shared.seek(6)
    with ThreadPoolExecutor(1) as other:
        assert other.submit(lambda: (shared.seek(1), shared.read(3))).result() == (1, b"123")
    assert shared.read(3) == b"678"
    assert shared.tell() == 9
    assert shared.read() == b"9"
    assert shared.read(5) == b""


def test_many_threads_read_a_large_object(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(duckdb_filesystem, "BLOCK_BYTES", 2**16)
    monkeypatch.setattr(duckdb_filesystem, "CACHE_BYTES", 2**19)
    generator = np.random.default_rng(0)
    frame = pl.DataFrame({name: generator.random(400_000) for name in "xy"})
    frame.write_parquet(tmp_path / "large.parquet", row_group_size=20_000)
    path = new_lake() / "large.parquet"
    path.put(tmp_path / "large.parquet")
    query = "select sum(hash(x)), sum(hash(y)) from read_parquet('{}')"
    gets: list[str] = []
    with (
        duckdb.connect(config={"threads": 8}) as connection,
        before_every_request(lambda operation, _: gets.append(operation)),
    ):
        connection.register_filesystem(duckdb_filesystem.ObjectStoreFileSystem(no_check))
        expected = connection.sql(query.format(tmp_path / "large.parquet")).fetchall()
        assert connection.sql(query.format(path)).fetchall() == expected
    assert len(gets) > 50
