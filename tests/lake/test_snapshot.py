"""The content of a snapshot: the tables and views of the lake, for any DuckDB that is supported."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from prunelake.analysis.analyse import analyse
from prunelake.lake import commit
from prunelake.lake.files.paths import SNAPSHOT_FILE
from prunelake.lake.maintenance.verify import verify_lake
from prunelake.lake.publish import publish
from prunelake.lake.snapshot_file import MATERIALISED_VIEWS
from prunelake.lake.sql import views
from prunelake.lake.sql.bound_query import attach
from prunelake.schema.tables import ALL_TABLES
from tests.support.paths import ROOT
from tests.support.runs.example_runs import explained_run
from tests.support.runs.lake_rows import small_run
from tests.support.runs.profile_rows import profiled

# The rows of these tests have nothing to exclude or bound, and are too few to calibrate.
EMPTY = {
    *("excluded", "seed_agreement", "bounds", "reported", "lake.bounds", "lake.reported"),
    *("lake.levels", "texts", "paired_texts", "lake.texts"),
    *("recalibrated_reliability", "lake.recalibrated_reliability"),
    *("copied_cells", "looks", "lake.looks", "damaged_runs"),
}


OLDEST_DUCKDB = Path(sys.prefix) / "oldest-duckdb"
"""The package that `make setup` installs here."""

WRITE_VIEWS = """
import sys, duckdb
snapshot, folder, *names = sys.argv[1:]
with duckdb.connect(snapshot, read_only=True) as connection:
    connection.execute("set TimeZone = 'UTC'")
    for name in names:
        connection.execute(f"copy (from {name} order by all) to '{folder}/{name}' (format parquet)")
print(duckdb.__version__)
"""

DROPS = {(method, op): 0.5 for op in ("replace", "delete_text") for method in ("random", "lime")}


@pytest.fixture(scope="module")
def analysed_lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of two small runs with their analyses; tests copy it."""
    folder = tmp_path_factory.mktemp("analysed")
    for name in ("first", "second"):
        run, frames = small_run(name)
        commit.write_run(folder, run, frames)
        analyse(folder, str(run["run_id"]))
    return folder


@pytest.fixture(scope="module")
def full_lake(analysed_lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published lake with an explained run and a profile, too; tests only read it."""
    folder = shutil.copytree(analysed_lake, tmp_path_factory.mktemp("full") / "lake")
    explained_run(folder, "explained", DROPS)
    profiled(folder, removal_order=[2, 1])
    publish(folder, analyse)
    return folder


def rows(path: Path, sql: str) -> pl.DataFrame:
    """The answer of the snapshot on disk, even if this process has an older file open."""
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        attach(connection, path, "published")
        connection.execute("use published")
        return views.select(connection, sql)


def test_every_table_and_view_equals_the_lake(full_lake: Path) -> None:
    path = full_lake / SNAPSHOT_FILE
    with views.connect(full_lake) as live, duckdb.connect(path, read_only=True) as snapshot:
        snapshot.execute("set TimeZone = 'UTC'")
        described = views.describe_views(live)
        assert_frame_equal(views.describe_views(snapshot), described)
        for name in [*described["view"], *(f"lake.{table}" for table in ALL_TABLES)]:
            expected, actual = (
                pl.DataFrame(connection.sql(f"from {name} order by all").to_arrow_table())
                for connection in (live, snapshot)
            )
            assert_frame_equal(actual, expected)
            assert expected.is_empty() == (name in EMPTY), name


def test_analyses_store_the_pairs_of_all_attributions(full_lake: Path) -> None:
    with views.connect(full_lake) as live:
        stored = views.select(live, "from rank_pairs order by all")
        computed = views.select(live, f"select {', '.join(stored.columns)} from compared_ranks")
    assert_frame_equal(stored, computed, check_row_order=False)
    assert len(set(stored["run_id"])) == 3


@pytest.mark.parametrize("view", MATERIALISED_VIEWS)
def test_slow_views_are_stored(full_lake: Path, view: str) -> None:
    path = full_lake / SNAPSHOT_FILE
    kinds = f"from information_schema.tables where table_name = '{view}' and table_schema != 'lake'"
    actual = rows(path, f"select table_schema, table_type {kinds} order by table_schema")
    assert actual.rows() == [("main", "VIEW"), ("stored", "BASE TABLE")]
    assert_frame_equal(rows(path, f"from {view}"), rows(path, f"from stored.{view}"))
    defined = rows(path, f"select sql from duckdb_views() where view_name = '{view}'")["sql"].item()
    assert "verdicts_at" not in defined


def test_the_oldest_duckdb_of_the_guides_answers_every_view(
    full_lake: Path, tmp_path: Path
) -> None:
    path = full_lake / SNAPSHOT_FILE
    with views.connect(full_lake) as live:
        names = views.describe_views(live)["view"].to_list()
    versions = []
    for folder, packages in (("old", OLDEST_DUCKDB), ("new", "")):
        (tmp_path / folder).mkdir()
        command = [sys.executable, "-c", WRITE_VIEWS, str(path), str(tmp_path / folder), *names]
        environment = {**os.environ, "PYTHONPATH": str(packages)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        versions.append(done.stdout.strip())
    assert versions[0] < versions[1] == duckdb.__version__
    assert f"DuckDB {versions[0]} or newer" in (ROOT / "docs/lake.md").read_text()
    for name in names:
        old, new = (pl.read_parquet(tmp_path / folder / name) for folder in ("old", "new"))
        assert_frame_equal(old, new)


def test_the_doctor_finds_nothing_in_a_published_lake(full_lake: Path) -> None:
    assert not verify_lake(full_lake)
