"""`doctor --repair`: it restores lost runs and clears leftovers, and keeps all other files."""

import os
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

from prunelake.analysis.analyse import analyse
from prunelake.errors import LakeError
from prunelake.lake import read
from prunelake.lake.files.entries import retire_owner
from prunelake.lake.files.findings import FindingKind
from prunelake.lake.files.manifests import decode
from prunelake.lake.maintenance.garbage import collect_garbage
from prunelake.lake.maintenance.repair import quarantine, repair
from prunelake.lake.maintenance.verify import verify_lake
from prunelake.lake.storage import locks
from prunelake.schema.analysis_tables import ANALYSIS_TABLES
from prunelake.schema.run_tables import RUN_TABLES
from prunelake.spec import SweepSpec
from tests.support.lakes.lake_files import (
    analysed_run_ids,
    data_file_of,
    flip_byte,
    manifest_of,
    stored_manifest,
)
from tests.support.lakes.local_paths import local_path
from tests.support.lakes.repairable_lakes import NO_GRACE, SPEC, add_run, files_of, whole
from tests.support.runs.lake_rows import identity_of


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return shutil.copytree(whole(), tmp_path / "lake")


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
