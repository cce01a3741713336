"""`doctor --repair` and `--quarantine`: they lose no undamaged run, and keep all other files."""

import os
import shutil
import sys
import time
from collections.abc import Callable
from datetime import timedelta
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
from prunelake.errors import LakeError
from prunelake.lake import commit, read
from prunelake.lake.files.entries import retire_owner
from prunelake.lake.files.findings import FindingKind
from prunelake.lake.files.manifests import decode
from prunelake.lake.maintenance.compact import compact
from prunelake.lake.maintenance.garbage import collect_garbage
from prunelake.lake.maintenance.repair import quarantine, repair
from prunelake.lake.maintenance.verify import verify_lake
from prunelake.lake.publish import publish
from prunelake.lake.sql import views
from prunelake.lake.storage import locks
from prunelake.schema.analysis_tables import ANALYSIS_TABLES
from prunelake.schema.run_tables import RUN_TABLES
from prunelake.spec import SweepSpec
from tests.support.endurance import repeats
from tests.support.lakes.lake_files import (
    analysed_run_ids,
    data_file_of,
    entry_of,
    flip_byte,
    group_of,
    manifest_of,
    stored_manifest,
)
from tests.support.lakes.local_paths import local_path
from tests.support.runs.lake_rows import bound, identity_of, small_analysis, small_run

ALL = (*RUN_TABLES, *ANALYSIS_TABLES)

NO_GRACE = timedelta(0)


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
    collect_garbage(folder, NO_GRACE)
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
    path = whole() / name
    folder = path.parents[1] / group_of(path.parent.name).owner_table.name
    return set(decode(next(folder.glob(f"{entry_of(path)}.*.json"))).owners)


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
        after = files_of(lake)
        aside = {path.read_bytes() for path in (lake / ".quarantine").rglob("*") if path.is_file()}
        for other, was in before.items():
            if other == name:
                assert content is None or content in aside or after.get(name) == content
            elif entry_of(Path(other)) == entry_of(Path(name)):
                assert after.get(other) == was or was in aside
            else:
                assert after[other] == was, other
        is_measured = Path(name).parent.name in RUN_TABLES
        lost = runs_in(name) if is_measured and not name.endswith(".json") else set()
        assert set(read.run_ids(lake)) == set(read.run_ids(whole())) - lost
        assert [f for f in verify_lake(lake) if f.kind is not FindingKind.orphaned] == []
        collect_garbage(lake, NO_GRACE)
        assert verify_lake(lake) == []
        for table in RUN_TABLES:
            expected = read.read_table(whole(), table).filter(~pl.col("run_id").is_in(lost))
            assert_frame_equal(read.read_table(lake, table), expected, check_row_order=False)
        assert set(views.query(lake, "select distinct run_id from metrics")["run_id"]) == set(
            read.run_ids(lake)
        )


def test_a_quarantined_run_is_moved_as_a_whole(lake: Path) -> None:
    run_id = identity_of("three")[1]
    before = files_of(lake)
    data_file_of(lake, "layers", run_id).write_bytes(b"")
    (said,) = quarantine(lake)
    (folder,) = (lake / ".quarantine").iterdir()
    moved = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.suffix != ".yaml"}
    moved -= {*RUN_TABLES}
    assert moved == {n for n in before if Path(n).name.startswith(f"{run_id}.")}
    assert said.startswith(f"moved run {run_id} to {folder}; ")
    mark = {f"runs/{run_id}.1.retired": b""}
    assert files_of(lake) == {n: b for n, b in before.items() if n not in moved} | mark
    assert quarantine(lake) == []
    assert verify_lake(lake) == []
    assert run_id not in analysed_run_ids(lake)
    # After another sweep the run exists again.
    add_run(lake, "three")
    assert manifest_of(lake, run_id).name == f"{run_id}.2.json"
    assert verify_lake(lake) == []
    assert set(read.run_ids(lake)) == analysed_run_ids(lake) == set(read.run_ids(whole()))


def test_the_other_runs_keep_their_analyses_in_a_segment(tmp_path: Path) -> None:
    # The analyses share a segment, the runs do not.
    for name in ("one", "two"):
        add_run(tmp_path, name)
    compact(tmp_path)
    for path in [p for table in RUN_TABLES for p in (tmp_path / table).glob("segment-*")]:
        path.unlink()
    assert verify_lake(tmp_path) == []
    lost, kept = identity_of("one")[1], identity_of("two")[1]
    data_file_of(tmp_path, "runs", lost).write_bytes(b"nothing")
    quarantine(tmp_path)
    assert verify_lake(tmp_path) == []
    assert analysed_run_ids(tmp_path) == {kept}
    add_run(tmp_path, "one", analysed=False, duration_s=9.0)
    assert read.unanalysed_run_ids(tmp_path) == [lost]


@pytest.mark.parametrize("name", ["one", "three"])
@pytest.mark.parametrize("is_damaged", [False, True])
def test_a_lost_or_damaged_manifest_is_restored(lake: Path, name: str, is_damaged: bool) -> None:
    run_id = identity_of(name)[1]
    rows = {table: read.read_table(lake, table) for table in RUN_TABLES}
    lost = manifest_of(lake, run_id)
    content = decode(lost)
    if is_damaged:
        flip_byte(lost, 100)
    else:
        lost.unlink()
    assert run_id not in read.run_ids(lake)
    expected_kind = FindingKind.damaged if is_damaged else FindingKind.lost
    assert {f.kind for f in verify_lake(lake)} == {expected_kind}
    collect_garbage(lake, NO_GRACE)  # keeps the files of a lost run
    if is_damaged:
        lines = quarantine(lake)
        assert len([*(lake / ".quarantine").glob("*/*/*")]) == 1
    else:
        lines = repair(lake, analyse)
    assert any(line.startswith(f"restored run {run_id}") for line in lines)
    # The analyses still belong to the restored runs.
    assert not [line for line in lines if line.startswith("analysed")]
    assert decode(lost).owners == content.owners
    for table, expected in rows.items():
        assert_frame_equal(read.read_table(lake, table), expected, check_row_order=False)
    assert read.unanalysed_run_ids(lake) == []
    assert [f for f in verify_lake(lake) if f.kind is not FindingKind.orphaned] == []


@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_a_run_that_lost_more_than_its_manifest_has_a_recipe(tmp_path: Path, damage: str) -> None:
    run_id = add_run(tmp_path, "one", spec=SPEC)
    other = add_run(tmp_path, "two")
    path = data_file_of(tmp_path, "layers", run_id)
    manifest_of(tmp_path, run_id).unlink()
    if damage == "missing":
        path.unlink()
    else:
        flip_byte(path)
    (line,) = repair(tmp_path, analyse)
    (folder,) = (tmp_path / ".quarantine").iterdir()
    recipe = folder / f"{run_id}.yaml"
    assert line == (
        f"moved run {run_id}, which has lost more than its manifest, to {folder}; `prunelake "
        f"sweep {recipe} --lake {tmp_path}` computes it again"
    )
    assert SweepSpec.model_validate_json(recipe.read_text()).model_dump_json() == SPEC
    assert (folder / "runs").is_dir()
    assert read.run_ids(tmp_path) == [other]
    assert verify_lake(tmp_path) == []
    assert add_run(tmp_path, "one") == run_id
    assert set(read.run_ids(tmp_path)) == {run_id, other}


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
    data_file_of(tmp_path, damaged, run_id).write_bytes(b"nothing")
    monkeypatch.setattr(
        sys, "argv", ["prunelake", "doctor", "--quarantine", "--lake", str(tmp_path)]
    )
    with pytest.raises(SystemExit) as exit_:
        main()
    assert not exit_.value.code
    told = capsys.readouterr().out
    (folder,) = (tmp_path / ".quarantine").iterdir()
    file = folder / f"{run_id}.yaml"
    assert f"`prunelake sweep {file} --lake {tmp_path}` computes it again" in told
    from prunelake.cli.sweep import _read_spec

    assert _read_spec(str(file)).model_dump_json() == SPEC


def test_a_lost_import_and_a_lost_spec_have_their_own_hints(tmp_path: Path) -> None:
    imported: dict[str, Any] = {"spec": '{"source": "harness"}', "identity": '{"kind": "import"}'}
    for name, columns in (("one", imported), ("two", {"spec": SPEC})):
        run_id = add_run(tmp_path, name, **columns)
        damaged = "layers" if name == "one" else "runs"
        data_file_of(tmp_path, damaged, run_id).write_bytes(b"nothing")
    told = " ".join(quarantine(tmp_path))
    assert 'import it again; it came from {"source": "harness"}' in told
    assert "its spec is lost with it" in told


def forget_analysis(lake: Path, run_id: str) -> None:
    retire_owner(lake, ANALYSIS_TABLES, stored_manifest(lake, run_id, "analyses"), run_id)


def test_repair_clears_leftovers(lake: Path) -> None:
    (lake / "layers" / ".dead.123.tmp").write_bytes(b"")
    (lake / "layers" / "dead.1.0123456789abcdef.parquet").write_bytes(b"rows")
    for run_id in ("dead", "busy", identity_of("one")[1]):
        (lake / ".shards" / run_id / "0").mkdir(parents=True)
        (lake / ".shards" / run_id / "0" / "rows.parquet").write_bytes(b"shard")
        (lake / ".shards" / f"{run_id}.lock").touch()
    long_ago = time.time() - 8 * 86400
    dead = (lake / ".shards" / "dead").rglob("*")
    old_locks = (lake / ".shards" / "busy.lock", lake / ".shards" / "dead.lock")
    for path in (*dead, *old_locks, lake / ".shards" / "dead"):
        os.utime(path, (long_ago, long_ago))
    (lake / ".watch").mkdir()
    (lake / ".watch" / "fine.json").write_text('{"attempts": 1}')
    (lake / ".watch" / "half.json").write_text('{"attem')
    (lake / ".watch" / "new.tmp").write_text("")
    (lake / ".watch" / "old.tmp").write_text("")
    os.utime(lake / ".watch" / "old.tmp", (long_ago, long_ago))
    lost = identity_of("four")[1]
    forget_analysis(lake, lost)
    orphaned = {
        "layers/.dead.123.tmp": FindingKind.orphaned,
        "layers/dead.1.0123456789abcdef.parquet": FindingKind.orphaned,
    }
    assert kinds(lake) == orphaned | {
        ".shards/dead": FindingKind.disposable,
        ".shards/dead.lock": FindingKind.disposable,
        f".shards/{identity_of('one')[1]}": FindingKind.disposable,
        f".shards/{identity_of('one')[1]}.lock": FindingKind.disposable,
        ".watch/half.json": FindingKind.disposable,
        ".watch/old.tmp": FindingKind.disposable,
        "analyses": FindingKind.unanalysed,
    }
    done = repair(lake, analyse)
    assert len(done) == 7
    assert sum("; deleted" in line for line in done) == 6
    assert done[-1] == f"analysed run {lost}"
    # Their writer may be at work; garbage collection deletes them after a grace period.
    assert kinds(lake) == orphaned
    assert (lake / ".shards" / "busy" / "0" / "rows.parquet").is_file()
    assert (lake / ".shards" / "busy.lock").is_file()
    assert not (lake / ".quarantine").exists()
    assert repair(lake, analyse) == []
    collect_garbage(lake, NO_GRACE)
    assert verify_lake(lake) == []


def kinds(lake: Path) -> dict[str, FindingKind]:
    return {str(local_path(f.file).relative_to(lake)): f.kind for f in verify_lake(lake)}


def test_no_numbers_are_computed_from_damaged_files(lake: Path) -> None:
    run_id = identity_of("four")[1]
    forget_analysis(lake, run_id)
    flip_byte(data_file_of(lake, "predictions", run_id))
    assert repair(lake, analyse) == []
    assert run_id not in analysed_run_ids(lake)


@pytest.mark.parametrize(
    "act", [quarantine, partial(repair, analyse=analyse)], ids=["quarantine", "repair"]
)
def test_a_lake_with_another_maintenance_at_work_is_left_alone(
    lake: Path, act: Callable[[Path], list[str]]
) -> None:
    (lake / "layers" / ".being.written.tmp").write_bytes(b"")
    data_file_of(lake, "examples", identity_of("three")[1]).write_bytes(b"")
    before = files_of(lake)
    lock = locks.MAINTENANCE_LOCK
    with locks.locked(lake, lock), pytest.raises(LakeError, match=f"{lock} is held"):
        act(lake)
    assert files_of(lake) == before
    with pytest.raises(LakeError, match="no lake at"):
        act(lake / "absent")
