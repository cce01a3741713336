"""A snapshot that is made from the one before equals a snapshot that is made from all files."""

from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from prunelake.analysis.analyse import analyse
from prunelake.errors import QueryError
from prunelake.lake import commit, read, snapshot_file
from prunelake.lake.files.entries import retire_owner
from prunelake.lake.files.manifests import read_group
from prunelake.lake.files.paths import SNAPSHOT_FILE
from prunelake.lake.maintenance.compact import compact
from prunelake.lake.publish import is_current, publish
from prunelake.lake.sql import views
from prunelake.lake.sql.bound_query import Connection, attach
from prunelake.schema.run_tables import RUN_TABLES
from prunelake.schema.tables import ALL_TABLES
from tests.support.lakes.compacted_lakes import add_run
from tests.support.runs.lake_rows import identity_of, run_row, small_run
from tests.support.runs.profile_rows import profiled
from tests.support.runs.verdict_rows import STABLE, judged, metric

HEADER_BYTES, BLOCK_BYTES = 3 * 4096, 2**18
"""Of a DuckDB file: three headers, then blocks that begin with a checksum."""


def rows_of(path: Path, *names: str) -> dict[str, pl.DataFrame]:
    """The rows of these views and tables of a snapshot, or all rows that it stores.

    Its other views depend on the stored rows only.
    """
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        attach(connection, path, "published")
        connection.execute("use published")
        stored = (*snapshot_file.MATERIALISED_VIEWS, *(f"lake.{name}" for name in ALL_TABLES))
        rows = {
            name: views.select(connection, f"from {name} order by all") for name in names or stored
        }
        rows["snapshot"] = views.select(connection, "select * exclude (created_at) from snapshot")
        return rows


def retire(lake: Path, name: str) -> None:
    for manifest in read_group(lake, RUN_TABLES).select([identity_of(name)[1]]):
        for run_id in manifest.run_ids:
            retire_owner(lake, RUN_TABLES, manifest, run_id)


def test_changed_and_new_snapshots_are_equal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "bounded", "three", "four", "five", "six"):
        add_run(tmp_path, name)
    profiled(tmp_path, "first")
    compact(tmp_path)
    publish(tmp_path, analyse)
    copies: list[bool] = []
    change = snapshot_file._change

    def counted(*arguments: Any) -> None:
        copies.append(True)
        change(*arguments)

    monkeypatch.setattr(snapshot_file, "_change", counted)
    add_run(tmp_path, "bounded later")
    retire(tmp_path, "one")
    retire(tmp_path, "three")
    add_run(tmp_path, "three", replicates=99)
    profiled(tmp_path, "again", {0: [1.0]})
    path = publish(tmp_path, analyse)
    assert copies == [True]
    changed = rows_of(path)
    (tmp_path / SNAPSHOT_FILE).unlink()
    publish(tmp_path, analyse)
    assert copies == [True]
    expected = rows_of(path)
    assert changed.keys() == expected.keys()
    for name, rows in changed.items():
        assert_frame_equal(rows, expected[name], check_exact=True)
    assert sorted(changed["lake.runs"]["run_id"]) == read.run_ids(tmp_path)
    assert not changed["lake.bounds"].is_empty()


def test_a_new_run_changes_p_values_and_verdicts_of_other_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged(tmp_path, STABLE, metric(p=0.03), metric("flip_rate", value=0.3, n=100), name="doubtful")
    judged(tmp_path, STABLE, metric(p=1e-6), name="certain")
    path = publish(tmp_path, analyse)
    before = rows_of(path, "verdicts")["verdicts"]
    judged(tmp_path, *(metric(name, p=1e-5) for name in ("ece", "brier", "nll")), name="new")
    differing: list[set[str]] = []
    adjust = snapshot_file._adjust_p_values

    def noted(snapshot: Connection) -> set[str]:
        differing.append(adjust(snapshot))
        return differing[-1]

    monkeypatch.setattr(snapshot_file, "_adjust_p_values", noted)
    changed = rows_of(publish(tmp_path, analyse))
    assert differing == [{run_row(name)["run_id"] for name in ("doubtful", "new")}]
    keys = ["run_id", "level", "metric"]
    both = before.join(changed["verdicts"], on=keys, suffix="_later")
    assert both.height == before.height
    assert both.filter(pl.col("verdict") != pl.col("verdict_later"))["metric"].to_list() == ["ece"]
    moved = both.filter(pl.col("p_adjusted") != pl.col("p_adjusted_later"))
    assert set(moved["run_id"]) == {run_row(name)["run_id"] for name in ("doubtful", "certain")}
    path.unlink()
    expected = rows_of(publish(tmp_path, analyse))
    assert expected["headline_metrics"].height == 8
    for name, rows in changed.items():
        assert_frame_equal(rows, expected[name], check_exact=True)


def test_a_run_that_was_computed_again_makes_a_snapshot_outdated(tmp_path: Path) -> None:
    add_run(tmp_path, "one")
    publish(tmp_path, analyse)
    retire(tmp_path, "one")
    run, frames = small_run("one")
    assert commit.write_run(tmp_path, run | {"duration_s": 9.0}, frames)
    assert read.run_ids(tmp_path) == [run["run_id"]]
    assert not is_current(tmp_path)
    assert rows_of(publish(tmp_path, analyse), "runs")["runs"]["duration_s"].to_list() == [9.0]


def test_rows_of_views_by_run_are_kept(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        add_run(tmp_path, name)
    path = publish(tmp_path, analyse)
    with duckdb.connect(path) as snapshot:
        for view in snapshot_file.VIEWS_BY_RUN:
            snapshot.execute(f"update stored.{view} set method = 'as before'")
    retire(tmp_path, "one")
    kept = {identity_of(name)[1] for name in ("two", "three")}
    kept_views = (
        *("example_agreement", "example_faithfulness"),
        *("metrics", "deltas", "headline_keys"),
    )
    rows = rows_of(publish(tmp_path, analyse), *kept_views)
    for view in kept_views:
        assert set(rows[view].select("run_id", "method").iter_rows()) == {
            (run_id, "as before") for run_id in kept
        }


def blocks_of(path: Path, *tables: str) -> set[int]:
    """The positions in the file of the blocks with rows of these tables."""
    with duckdb.connect() as connection:
        attach(connection, path, "published")
        connection.execute("use published")
        return {
            HEADER_BYTES + BLOCK_BYTES * block
            for table in tables
            for (block,) in connection.execute(
                "select distinct block_id from pragma_storage_info(?) where block_id >= 0", [table]
            ).fetchall()
        }


def test_a_damaged_snapshot_gives_no_number_and_is_written_anew(tmp_path: Path) -> None:
    """Zeros are left where a disk lost a write."""
    judged(tmp_path, STABLE, metric(p=0.03), name="one")
    judged(tmp_path, STABLE, metric(p=0.01), name="two")
    path = publish(tmp_path, analyse)
    whole, names = path.read_bytes(), ("stored.verdicts", "lake.metrics")
    for position in blocks_of(path, *names):
        path.write_bytes(whole[:position])
        with pytest.raises((duckdb.Error, QueryError)):
            rows_of(path, *names)
        path.write_bytes(whole[:position] + bytes(BLOCK_BYTES) + whole[position + BLOCK_BYTES :])
        with pytest.raises(QueryError, match="checksum"):
            rows_of(path, *names)
    assert is_current(tmp_path)
    judged(tmp_path, STABLE, name="three")
    changed = rows_of(publish(tmp_path, analyse))
    path.unlink()
    expected = rows_of(publish(tmp_path, analyse))
    for name, rows in changed.items():
        assert_frame_equal(rows, expected[name], check_exact=True)
