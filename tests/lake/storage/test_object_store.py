"""A lake in an object store gives the same answers and findings as a lake in a folder."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from prunelake.analysis.analyse import analyse
from prunelake.api.queries.snapshots.snapshot import LatestSnapshot
from prunelake.errors import CorruptFile, LakeError, QueryError
from prunelake.lake import commit, read
from prunelake.lake.files.findings import FindingKind
from prunelake.lake.files.paths import SNAPSHOT_FILE
from prunelake.lake.maintenance.compact import compact
from prunelake.lake.maintenance.garbage import collect_garbage
from prunelake.lake.maintenance.repair import quarantine, repair
from prunelake.lake.maintenance.retention import retire
from prunelake.lake.maintenance.verify import verify_lake
from prunelake.lake.publish import is_current, publish
from prunelake.lake.sql import views
from prunelake.lake.storage.location import Location, parse_location
from prunelake.lake.storage.objects import ObjectPath
from prunelake.schema.analysis_tables import ANALYSIS_TABLES
from prunelake.schema.run_tables import RUN_TABLES
from prunelake.settings import Settings
from tests.support.object_stores.object_store import before_every_request, new_lake, object_names
from tests.support.runs.example_runs import explained_run
from tests.support.runs.lake_rows import identity_of, small_run

pytestmark = pytest.mark.usefixtures("object_store")


VOLATILE_COLUMNS = {"analyses": ["analysed_at"]}


def fill(lake: Location) -> None:
    """Write two analysed runs and a run without analysis."""
    explained_run(lake, "one")
    explained_run(lake, "two", strategy="random:1")
    assert commit.write_run(lake, *small_run("three"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("lake")
    fill(made)
    return made


@pytest.fixture(scope="module")
def filled(object_store: str) -> ObjectPath:  # noqa: ARG001  # it must run
    made = new_lake()
    fill(made)
    return made


@pytest.fixture
def remote(filled: ObjectPath) -> ObjectPath:
    """A copy of the lake that the test may change."""
    made = new_lake()
    for path in filled.iter_objects():
        (made / path.key.removeprefix(f"{filled.key}/")).copy_from(path)
    return made


def rows(lake: Location) -> Iterator[tuple[str, pl.DataFrame]]:
    """Every table and every view, in one order."""
    for name in (*RUN_TABLES, *ANALYSIS_TABLES):
        yield name, read.read_table(lake, name).drop(VOLATILE_COLUMNS.get(name, [])).sort("run_id")
    with views.connect(lake) as connection:
        for name in views.describe_views(connection)["view"]:
            yield f"view {name}", views.select(connection, f"select * from {name} order by all")


def test_tables_and_views_equal_a_folder(folder: Path, filled: ObjectPath) -> None:
    assert read.run_ids(filled) == read.run_ids(folder)
    assert read.unanalysed_run_ids(filled) == read.unanalysed_run_ids(folder)
    expected = dict(rows(folder))
    assert len(expected) > 30
    for name, actual in rows(filled):
        assert_frame_equal(actual, expected[name])


def test_compaction_and_garbage_collection_change_no_answer(
    folder: Path, remote: ObjectPath
) -> None:
    expected = read.read_table(remote, "predictions").sort("run_id", maintain_order=True)
    query = "select count(*) from lake.predictions"
    seen: list[int] = []

    def read_again(operation: str, options: dict[str, Any]) -> None:
        is_write = operation == "put" or (operation == "delete" and "/." not in options["key"])
        if is_write and len(seen) < 6:
            actual = read.read_table(remote, "predictions").sort("run_id", maintain_order=True)
            assert_frame_equal(actual, expected)
            seen.append(views.query(remote, query).item())

    with views.connect(remote) as early, before_every_request(read_again):
        before, after = compact(remote)
        assert views.select(early, query).item() == expected.height
        assert before > after
        seen.clear()
        collect_garbage(remote, timedelta(0))
    assert seen == [expected.height] * 6
    assert after == len(object_names(remote))
    assert compact(remote) == (after, after)
    assert {finding.kind for finding in verify_lake(remote)} == {FindingKind.unanalysed}
    wanted = dict(rows(folder))
    for name, actual in rows(remote):
        assert_frame_equal(actual, wanted[name])


def test_sql_reads_the_objects_of_the_lake_and_nothing_else(
    remote: ObjectPath, tmp_path: Path
) -> None:
    (tmp_path / "secret.csv").write_text("a,b\n1,2\n")
    (remote / "secret.csv").put(b"a,b\n1,2\n")
    for path in (tmp_path / "secret.csv", remote / "secret.csv", remote / "runs" / "*.parquet"):
        reader = "parquet" if path.suffix == ".parquet" else "csv"
        with pytest.raises(QueryError, match="Permission"):
            views.query(remote, f"select * from read_{reader}('{path}')")
    before = object_names(remote)
    with views.connect(remote) as connection, pytest.raises(duckdb.Error):
        connection.execute(f"copy (select 1 as a) to '{remote}/written.parquet'")
    assert object_names(remote) == before


def test_the_snapshot_is_one_object_that_opens_without_the_lake(
    folder: Path, remote: ObjectPath, tmp_path: Path
) -> None:
    assert not is_current(remote)
    assert publish(remote, analyse) == remote / SNAPSHOT_FILE
    assert is_current(remote)
    tag, _ = (remote / SNAPSHOT_FILE).metadata()
    publish(remote, analyse)
    assert (remote / SNAPSHOT_FILE).metadata()[0] == tag
    (remote / SNAPSHOT_FILE).download(tmp_path / SNAPSHOT_FILE)
    snapshot = LatestSnapshot(tmp_path).current()
    assert snapshot.run_count == 3
    with snapshot.cursor() as cursor:
        actual = pl.DataFrame(cursor.sql("from lake.predictions").to_arrow_table())
    expected = read.read_table(folder, "predictions")
    keys = list(RUN_TABLES["predictions"].key)
    assert_frame_equal(actual.sort(keys), expected.sort(keys))
    assert commit.write_run(remote, *small_run("four"))
    assert not is_current(remote)


@pytest.mark.parametrize(
    ("table", "harm"),
    [
        ("predictions", "gone"),
        pytest.param("runs", "flipped", marks=pytest.mark.endurance),
        pytest.param("runs", "gone", marks=pytest.mark.endurance),
        pytest.param("predictions", "shortened", marks=pytest.mark.endurance),
        pytest.param("metrics", "flipped", marks=pytest.mark.endurance),
    ],
)
def test_doctor_finds_damaged_objects(remote: ObjectPath, table: str, harm: str) -> None:
    run_id = identity_of("one")[1]
    (path,) = (p for p in (remote / table).glob("*.parquet") if p.name.startswith(run_id))
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.put(bytes(content) if harm == "flipped" else bytes(content[:-5]))
    if harm == "gone":
        path.remove()
    damage = [finding for finding in verify_lake(remote) if finding.kind is FindingKind.damaged]
    assert {finding.file for finding in damage} == {path}
    assert run_id in " ".join(quarantine(remote))
    assert not [finding for finding in verify_lake(remote) if finding.kind is FindingKind.damaged]
    repair(remote, analyse)
    assert verify_lake(remote) == []
    assert read.has_run(remote, identity_of("two")[1])
    assert read.has_run(remote, run_id) is (table == "metrics")


def test_unlisted_objects_are_leftovers_and_cleared(remote: ObjectPath) -> None:
    run_id = identity_of("one")[1]
    name = f"{run_id}.1.0123456789abcdef.parquet"
    (remote / "layers" / name).put(b"of a writer that was killed")
    (remote / ".shards" / run_id / "shards" / "a.parquet").put(b"of a run that is complete")
    leftovers = [
        f for f in verify_lake(remote) if f.kind in (FindingKind.orphaned, FindingKind.disposable)
    ]
    assert {f.file.name for f in leftovers} == {name, run_id}
    before = read.read_table(remote, "layers")
    assert collect_garbage(remote) == 0
    assert collect_garbage(remote, timedelta(0)) == 1
    repair(remote, analyse)
    assert verify_lake(remote) == []
    assert_frame_equal(read.read_table(remote, "layers"), before)


def test_a_superseded_run_is_removed_completely(remote: ObjectPath) -> None:
    run, frames = small_run("newer")
    run["revision"] = "1" * 40
    assert commit.write_run(remote, run, frames)
    old = identity_of("three")[1]
    assert old in [each.run_id for each in retire(remote)]
    assert old not in read.run_ids(remote)
    assert old not in read.read_table(remote, "predictions")["run_id"]
    collect_garbage(remote, timedelta(0))
    assert {name for name in object_names(remote) if old in name} == {f"runs/{old}.1.retired"}
    assert {finding.kind for finding in verify_lake(remote)} == {FindingKind.unanalysed}


def test_a_damaged_object_never_becomes_a_number(remote: ObjectPath) -> None:
    one, two = identity_of("one")[1], identity_of("two")[1]
    (path,) = (remote / "predictions").glob(f"{one}.*")
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.put(bytes(content))
    assert set(views.query(remote, "select run_id from lake.predictions")["run_id"]) == {
        identity_of(name)[1] for name in ("two", "three")
    }
    assert views.query(remote, "select run_id from damaged_runs").rows() == [(one,)]
    with pytest.raises(CorruptFile, match=str(path)):
        read.read_table(remote, "predictions", [one])
    assert read.read_table(remote, "predictions", [two]).height > 0


def test_locations_are_parsed_from_text() -> None:
    assert parse_location("s3://bucket/a//b/") == ObjectPath("s3", "bucket", "a/b")
    assert parse_location("some/folder") == Path("some/folder")
    assert str(ObjectPath("s3", "bucket", "a/b") / "c") == "s3://bucket/a/b/c"
    settings = Settings(lake="s3://bucket/a")  # type: ignore[arg-type]  # a string, as in the environment
    assert settings.lake == ObjectPath("s3", "bucket", "a")
    assert Settings.model_validate_json(settings.model_dump_json()).lake == settings.lake
    assert parse_location("az://container/a") == ObjectPath("az", "container", "a")
    for text, message in (("ftp://host/a", "gs://BUCKET/PREFIX"), ("gs://", "names no bucket")):
        with pytest.raises(LakeError, match=message):
            parse_location(text)


def test_a_prefix_without_objects_is_no_lake() -> None:
    with pytest.raises(LakeError, match="no lake at s3://lakes/team/"):
        views.query(new_lake(), "select 1")
    commit.check_writable(new_lake())
