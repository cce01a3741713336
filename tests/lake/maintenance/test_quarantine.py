"""`doctor --quarantine`: it moves a damaged run aside, and keeps all other runs."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from prunelake.analysis.analyse import analyse
from prunelake.cli.app import main
from prunelake.lake import read
from prunelake.lake.files.findings import FindingKind
from prunelake.lake.files.manifests import decode
from prunelake.lake.maintenance.compact import compact
from prunelake.lake.maintenance.garbage import collect_garbage
from prunelake.lake.maintenance.repair import quarantine, repair
from prunelake.lake.maintenance.verify import verify_lake
from prunelake.lake.publish import publish
from prunelake.lake.sql import views
from prunelake.schema.run_tables import RUN_TABLES
from tests.support.endurance import repeats
from tests.support.lakes.lake_files import (
    analysed_run_ids,
    data_file_of,
    entry_of,
    group_of,
    manifest_of,
)
from tests.support.lakes.repairable_lakes import NO_GRACE, SPEC, add_run, files_of, whole
from tests.support.runs.lake_rows import identity_of


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return shutil.copytree(whole(), tmp_path / "lake")


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
