"""`doctor --repair` and `--quarantine`: they find any damage, and keep all other files."""

import os
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from prunelake.analysis.analyse import analyse
from prunelake.cli.app import main
from prunelake.errors import CorruptFile, LakeError
from prunelake.lake import commit, read
from prunelake.lake.files import parquet
from prunelake.lake.files.damage import find_damage
from prunelake.lake.files.findings import FindingKind
from prunelake.lake.maintenance.compact import compact
from prunelake.lake.maintenance.repair import quarantine, repair
from prunelake.lake.maintenance.verify import verify_lake
from prunelake.lake.publish import publish
from prunelake.lake.sql import views
from prunelake.lake.storage import locks
from prunelake.schema.analysis_tables import ANALYSIS_TABLES
from prunelake.schema.run_tables import RUN_TABLES
from prunelake.schema.table import FORMAT_VERSION
from prunelake.spec import SweepSpec
from tests.support.endurance import repeats
from tests.support.lake_rows import bound, identity_of, small_analysis, small_run
from tests.support.local_paths import local_path

ALL = (*RUN_TABLES, *ANALYSIS_TABLES)


def add_run(lake: Path, name: str, analysed: bool = True, **columns: Any) -> str:
    run, written = small_run(name)
    run_id = str(run["run_id"])
    written["bounds"] = RUN_TABLES["bounds"].frame([bound(run_id, 0, "test:0")])
    commit.write_run(lake, run | columns, written)
    if analysed:
        commit.write_analysis(lake, *small_analysis(run_id))
    return run_id


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """Two runs in a segment, and two runs with their own files."""
    return shutil.copytree(whole(), tmp_path / "lake")


@cache
def whole() -> Path:
    folder = Path(mkdtemp())
    for name in ("one", "two"):
        add_run(folder, name)
    compact(folder)
    for name in ("three", "four"):
        add_run(folder, name)
    assert verify_lake(folder) == []
    return folder


def files_of(lake: Path) -> dict[str, bytes]:
    """The files of the tables, by their names in the lake."""
    paths = (path for name in ALL for path in (lake / name).glob("*"))
    return {str(path.relative_to(lake)): path.read_bytes() for path in sorted(paths)}


def runs_in(name: str) -> set[str]:
    """The runs that have rows in a file of the whole lake, or may have."""
    manifests = whole() / ("runs" if Path(name).parent.name in RUN_TABLES else "analyses")
    return set(pl.read_parquet(manifests / Path(name).name)["run_id"])


Damage = Callable[[bytes], bytes | None]


def flipped(position: float, mask: int) -> Damage:
    def act(content: bytes) -> bytes:
        changed = bytearray(content)
        changed[int(position * len(content))] ^= mask
        return bytes(changed)

    return act


def cut(position: float) -> Damage:
    return lambda content: content[: int(position * len(content))]


def removed(_: bytes) -> None:
    return None


positions = st.floats(0, 1, exclude_max=True)
damages = st.one_of(
    st.builds(flipped, positions, st.integers(1, 255)), st.builds(cut, positions), st.just(removed)
)


@given(which=st.integers(0, 1_000), act=damages)
@settings(max_examples=repeats(4, 60))
def test_any_damage_is_moved_aside_and_all_other_files_stay(which: int, act: Damage) -> None:
    with TemporaryDirectory() as folder:
        lake = shutil.copytree(whole(), Path(folder) / "lake")
        before = files_of(lake)
        name = sorted(before)[which % len(before)]
        content = act(before[name])
        if content is None:
            (lake / name).unlink()
        else:
            (lake / name).write_bytes(content)
        assert verify_lake(lake), f"{name} was damaged"
        quarantine(lake)
        repair(lake, analyse)
        lost = runs_in(name) if Path(name).parent.name in RUN_TABLES else set()
        assert set(read.run_ids(lake)) == set(read.run_ids(whole())) - lost
        # Everything stays, except analyses of lost runs, which may share a segment with others.
        assert verify_lake(lake) == []
        after = files_of(lake)
        for other, was in before.items():
            is_measured = Path(other).parent.name in RUN_TABLES
            if is_measured == (Path(name).parent.name in RUN_TABLES):
                stays = not runs_in(other) & runs_in(name)
            else:
                stays = not runs_in(other) & lost
            if stays:
                assert after[other] == was, other
        for table in RUN_TABLES:
            expected = read.read_table(whole(), table).filter(~pl.col("run_id").is_in(lost))
            assert_frame_equal(read.read_table(lake, table), expected, check_row_order=False)
        assert set(views.query(lake, "select distinct run_id from metrics")["run_id"]) == set(
            read.run_ids(lake)
        )
        # Nothing is lost: moved files are unchanged.
        aside = [path.read_bytes() for path in (lake / ".quarantine").rglob("*.parquet")]
        for other, was in before.items():
            if Path(other).parent.name in RUN_TABLES and other != name:
                assert after.get(other) == was or was in aside
        if content is not None:
            assert content in aside


@pytest.mark.parametrize("table", ["runs", "analyses"])
def test_a_change_to_any_byte_of_a_manifest_is_found(lake: Path, table: str) -> None:
    manifest = lake / table / f"{identity_of('three')[1]}.parquet"
    content = manifest.read_bytes()
    for position in range(0, len(content), 11):
        changed = bytearray(content)
        changed[position] ^= 0x10
        manifest.write_bytes(changed)
        with suppress(CorruptFile):  # it does not even open
            assert parquet.manifest_problem(manifest), position
    assert {f.file for f in find_damage(lake)} == {manifest}


@pytest.mark.parametrize("table", ["runs", "analyses"])
def test_a_manifest_without_checksum_is_damaged(lake: Path, table: str) -> None:
    manifest = lake / table / f"{identity_of('three')[1]}.parquet"
    metadata = {"prunelake.format_version": str(FORMAT_VERSION), "prunelake.table": table}
    pl.read_parquet(manifest).write_parquet(manifest, metadata=metadata)
    (finding,) = find_damage(lake)
    assert (finding.file, finding.problem) == (manifest, "it has no checksum")
    with pytest.raises(CorruptFile, match="it has no checksum"):
        compact(lake)


def test_a_damaged_manifest_is_not_merged(lake: Path) -> None:
    manifest = lake / "runs" / f"{identity_of('three')[1]}.parquet"
    keys = {k: v for k, v in pl.read_parquet_metadata(manifest).items() if k != "ARROW:schema"}
    rows = pl.read_parquet(manifest).with_columns(model=pl.lit("another"))
    rows.write_parquet(manifest, metadata=keys)
    with pytest.raises(CorruptFile, match=r"SHA-256 differs"):
        compact(lake)


def test_a_quarantined_run_is_moved_with_its_analysis(lake: Path) -> None:
    run_id = identity_of("three")[1]
    before = files_of(lake)
    (lake / "layers" / f"{run_id}.parquet").write_bytes(b"")
    said, *beside = quarantine(lake)
    (folder,) = (lake / ".quarantine").iterdir()
    moved = {str(p.relative_to(folder)) for p in folder.rglob("*.parquet")}
    assert moved == {name for name in before if Path(name).stem == run_id}
    assert said.startswith(f"moved run {run_id} to {folder}; ")
    assert all(f"{run_id}.parquet: leftover: belongs to no complete run" in s for s in beside)
    assert len(beside) == len(ANALYSIS_TABLES)
    assert files_of(lake) == {name: b for name, b in before.items() if name not in moved}
    assert quarantine(lake) == []
    # After another sweep the run exists again.
    add_run(lake, "three")
    assert {name: len(content) for name, content in files_of(lake).items()} == {
        name: len(content) for name, content in before.items()
    }
    assert verify_lake(lake) == []


def test_the_analysis_of_a_lost_run_is_removed_from_a_segment(tmp_path: Path) -> None:
    # The analyses share a segment, the runs do not.
    for name in ("one", "two"):
        add_run(tmp_path, name)
    loose = {p: p.read_bytes() for t in RUN_TABLES for p in (tmp_path / t).glob("*")}
    compact(tmp_path)
    for path in [p for table in RUN_TABLES for p in (tmp_path / table).glob("segment-*")]:
        path.unlink()
    for path, content in loose.items():
        path.write_bytes(content)
    assert verify_lake(tmp_path) == []
    lost, kept = identity_of("one")[1], identity_of("two")[1]
    (tmp_path / "runs" / f"{lost}.parquet").write_bytes(b"nothing")
    quarantine(tmp_path)
    assert verify_lake(tmp_path) == []
    assert read.analysed_run_ids(tmp_path) == {kept}
    add_run(tmp_path, "one", analysed=False)
    assert read.unanalysed_run_ids(tmp_path) == [lost]


SPEC = SweepSpec(task="opinions", levels=(0, 2)).model_dump_json()


@pytest.mark.parametrize("where", ["manifest", "snapshot"])
def test_the_spec_of_a_lost_run_sweeps_it_again(
    tmp_path: Path,
    where: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_id = add_run(tmp_path, "one", spec=SPEC)
    analyse(tmp_path, run_id)
    if where == "snapshot":
        publish(tmp_path, analyse)
    damaged = "runs" if where == "snapshot" else "layers"
    (tmp_path / damaged / f"{run_id}.parquet").write_bytes(b"nothing")
    monkeypatch.setattr(
        sys, "argv", ["prunelake", "doctor", "--quarantine", "--lake", str(tmp_path)]
    )
    with pytest.raises(SystemExit) as exit_:
        main()
    assert not exit_.value.code
    told = capsys.readouterr().out
    (folder,) = (tmp_path / ".quarantine").iterdir()
    file = folder / f"{run_id}.yaml"
    assert f"`prunelake sweep {file} --lake {tmp_path}` makes it again" in told
    from prunelake.cli.sweep import _read_spec

    assert _read_spec(str(file)).model_dump_json() == SPEC


def test_a_lost_import_and_a_lost_spec_have_their_own_hints(tmp_path: Path) -> None:
    imported: dict[str, Any] = {"spec": '{"source": "harness"}', "identity": '{"kind": "import"}'}
    for name, columns in (("one", imported), ("two", {"spec": SPEC})):
        run_id = add_run(tmp_path, name, **columns)
        damaged = "layers" if name == "one" else "runs"
        (tmp_path / damaged / f"{run_id}.parquet").write_bytes(b"nothing")
    told = " ".join(quarantine(tmp_path))
    assert 'import it again; it came from {"source": "harness"}' in told
    assert "its spec is lost with it" in told


def test_repair_clears_leftovers(lake: Path) -> None:
    before = files_of(lake)
    (lake / "layers" / ".dead.123.tmp").write_bytes(b"")
    (lake / "layers" / "dead.parquet").write_bytes(b"rows")
    for run_id in ("dead", "busy", identity_of("one")[1]):
        (lake / ".shards" / run_id / "0").mkdir(parents=True)
        (lake / ".shards" / run_id / "0" / "rows.parquet").write_bytes(b"shard")
    long_ago = time.time() - 8 * 86400
    for path in (lake / ".shards" / "dead").rglob("*"):
        os.utime(path, (long_ago, long_ago))
    os.utime(lake / ".shards" / "dead", (long_ago, long_ago))
    (lake / ".watch").mkdir()
    (lake / ".watch" / "fine.json").write_text('{"attempts": 1}')
    (lake / ".watch" / "half.json").write_text('{"attem')
    (lake / ".watch" / "new.tmp").write_text("")
    (lake / ".watch" / "old.tmp").write_text("")
    os.utime(lake / ".watch" / "old.tmp", (long_ago, long_ago))
    lost = identity_of("four")[1]
    for table in ANALYSIS_TABLES:
        (lake / table / f"{lost}.parquet").unlink()
    assert {str(local_path(f.file).relative_to(lake)): f.kind for f in verify_lake(lake)} == {
        "layers/.dead.123.tmp": FindingKind.disposable,
        "layers/dead.parquet": FindingKind.orphaned,
        ".shards/dead": FindingKind.orphaned,
        f".shards/{identity_of('one')[1]}": FindingKind.disposable,
        ".watch/half.json": FindingKind.orphaned,
        ".watch/old.tmp": FindingKind.disposable,
        f"analyses/{lost}.parquet": FindingKind.unanalysed,
    }
    done = repair(lake, analyse)
    assert len(done) == 7
    assert sum("; deleted" in line for line in done) == 3
    assert done[-1] == f"analysed run {lost}"
    assert verify_lake(lake) == []
    # The new analysis has one round, and one example, too few to recalibrate.
    gone = {f"{table}/{lost}.parquet" for table in ("looks", "recalibrated_reliability")}
    assert files_of(lake).keys() == before.keys() - gone
    (folder,) = (lake / ".quarantine").iterdir()
    assert {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} == {
        "layers/dead.parquet",
        ".shards/dead/0/rows.parquet",
        ".watch/half.json",
    }
    assert (lake / ".shards" / "busy" / "0" / "rows.parquet").is_file()
    assert repair(lake, analyse) == []


def test_no_numbers_are_computed_from_damaged_files(lake: Path) -> None:
    run_id = identity_of("four")[1]
    for table in ANALYSIS_TABLES:
        (lake / table / f"{run_id}.parquet").unlink()
    path = lake / "predictions" / f"{run_id}.parquet"
    content = bytearray(path.read_bytes())
    content[10] ^= 1
    path.write_bytes(content)
    assert repair(lake, analyse) == []
    assert run_id in read.unanalysed_run_ids(lake)


@pytest.mark.parametrize("lock", [locks.WRITE_LOCK, locks.PUBLISH_LOCK])
@pytest.mark.parametrize(
    "act", [quarantine, partial(repair, analyse=analyse)], ids=["quarantine", "repair"]
)
def test_a_lake_with_a_writer_at_work_is_left_alone(
    lake: Path, lock: str, act: Callable[[Path], list[str]]
) -> None:
    (lake / "layers" / ".being.written.tmp").write_bytes(b"")
    (lake / "examples" / f"{identity_of('three')[1]}.parquet").write_bytes(b"")
    before = files_of(lake)
    with locks.locked(lake, lock), pytest.raises(LakeError, match=f"{lock} is held"):
        act(lake)
    assert files_of(lake) == before
    with pytest.raises(LakeError, match="no lake at"):
        act(lake / "absent")
