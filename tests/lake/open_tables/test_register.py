"""Delta and Iceberg tables over the data files of a lake, read by other engines."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest
from deltalake import DeltaTable
from polars.testing import assert_frame_equal

from prunelake.errors import LakeError
from prunelake.lake import commit, read
from prunelake.lake.files.entries import retire_owner
from prunelake.lake.files.manifests import read_group
from prunelake.lake.maintenance.compact import compact
from prunelake.lake.maintenance.verify import verify_lake
from prunelake.lake.open_tables.register import TableFormat, refresh_tables, register_tables
from prunelake.schema.run_tables import RUN_TABLES
from prunelake.schema.tables import ALL_TABLES
from tests.support.lakes.compacted_lakes import add_run
from tests.support.object_stores.object_store import new_lake
from tests.support.runs.lake_rows import identity_of, small_run

if TYPE_CHECKING:  # its import takes a second, and every test process collects this file
    from pyiceberg.table import Table as IcebergTable

CHECKED_TABLES = ("runs", "predictions", "metrics")


@pytest.fixture(autouse=True)
def _plans_by_pyiceberg(monkeypatch: pytest.MonkeyPatch) -> None:
    # Another planner is a further package; polars warns without it.
    monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")


def iceberg_table(lake: Path, table: str) -> "IcebergTable":
    from pyiceberg.catalog.sql import SqlCatalog

    folder = lake / ".iceberg"
    catalog = SqlCatalog(
        "lake", uri=f"sqlite:///{folder / 'catalog.sqlite'}", warehouse=f"file://{folder}"
    )
    return catalog.load_table(("lake", table))


def read_delta(lake: Path, table: str) -> pl.DataFrame:
    return pl.scan_delta(str(lake / table)).collect()


def read_iceberg(lake: Path, table: str) -> pl.DataFrame:
    return pl.scan_iceberg(iceberg_table(lake, table)).collect()


def delta_commits(lake: Path) -> int:
    return DeltaTable(str(lake / "predictions")).version()


def iceberg_commits(lake: Path) -> int:
    return len(iceberg_table(lake, "predictions").snapshots())


def data_files(lake: Path) -> set[Path]:
    return {path for table in ALL_TABLES for path in (lake / table).glob("*.parquet")}


@pytest.mark.parametrize(
    ("table_format", "read_rows", "commits"),
    [("delta", read_delta, delta_commits), ("iceberg", read_iceberg, iceberg_commits)],
)
def test_other_engines_read_the_rows_of_the_lake_at_every_time(
    tmp_path: Path,
    table_format: TableFormat,
    read_rows: Callable[[Path, str], pl.DataFrame],
    commits: Callable[[Path], int],
) -> None:
    lake = tmp_path / "o'lake"

    def assert_equal() -> None:
        for name in CHECKED_TABLES:
            key = ALL_TABLES[name].key
            expected = read.read_table(lake, name).sort(key)
            assert not expected.is_empty()
            assert_frame_equal(read_rows(lake, name).sort(key), expected)

    add_run(lake, "one")
    add_run(lake, "two")
    before = data_files(lake)
    register_tables(lake, table_format)
    if table_format == "iceberg":
        scan = iceberg_table(lake, "predictions").scan(row_filter="level = 0")
        expected = read.read_table(lake, "predictions").filter(level=0)["confidence"]
        assert sum(scan.to_arrow().column("confidence").to_pylist()) == expected.sum()
    assert data_files(lake) == before
    assert verify_lake(lake) == []
    assert_equal()
    add_run(lake, "three")
    refresh_tables(lake)
    assert_equal()
    # A compaction removes the files of three runs and adds one file, in one commit.
    count = commits(lake)
    compact(lake)
    refresh_tables(lake)
    refresh_tables(lake)
    assert commits(lake) == count + 1
    assert_equal()
    # Rows of a retired run disappear, though a segment has them.
    (segment,) = [m for m in read_group(lake, RUN_TABLES).select() if m.run_ids]
    retire_owner(lake, RUN_TABLES, segment, identity_of("one")[1])
    refresh_tables(lake)
    assert len(read.run_ids(lake)) == 2
    assert_equal()


@pytest.mark.usefixtures("object_store")
def test_an_object_store_has_delta_tables_and_no_iceberg_catalogue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    lake = new_lake()
    assert commit.write_run(lake, *small_run())
    register_tables(lake, "delta")
    assert DeltaTable(str(lake / "predictions")).to_pyarrow_table().num_rows == 2
    with pytest.raises(LakeError, match="take --format delta, or a lake in a folder"):
        register_tables(lake, "iceberg")
