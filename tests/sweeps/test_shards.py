import threading
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from prunelake.errors import CorruptFile, LakeError
from prunelake.lake import read
from prunelake.lake.partial_runs import ComputeCost, PartialRun
from prunelake.schema.run_tables import DELETIONS, PREDICTIONS
from prunelake.sweeps.shards import (
    EXAMPLES_PER_EXPLANATION_SHARD,
    EXAMPLES_PER_PREDICTION_SHARD,
    Shard,
    split_into_shards,
)
from tests.support.lakes.local_paths import local_path
from tests.support.limits import HANG_S
from tests.support.runs.lake_rows import prediction

COST = ComputeCost(12.5, 0.25, "cpu")


def rows(*examples: str) -> pl.DataFrame:
    return PREDICTIONS.frame(
        [prediction("run", level, name, [-1.0, -2.0]) for level in (0, 1) for name in examples]
    )


@given(st.integers(1, 500), st.data())
def test_explained_examples_have_shards_of_their_own(count: int, data: st.DataObject) -> None:
    explained = data.draw(st.integers(0, count))
    shards = split_into_shards(count, explained)
    assert [n for shard in shards for n in range(shard.start, shard.stop)] == [*range(count)]
    for shard in shards:
        is_explained = shard.start < explained
        assert shard.stop <= (explained if is_explained else count)
        assert shard.stop - shard.start <= (
            EXAMPLES_PER_EXPLANATION_SHARD if is_explained else EXAMPLES_PER_PREDICTION_SHARD
        )


def test_shards_are_as_large_as_allowed() -> None:
    assert split_into_shards(140, 6) == [
        Shard(0, 4),
        Shard(4, 6),
        Shard(6, 70),
        Shard(70, 134),
        Shard(134, 140),
    ]
    assert split_into_shards(3, 0) == [Shard(0, 3)]
    assert split_into_shards(4, 4) == [Shard(0, 4)]
    assert str(Shard(4, 6)) == "examples 4 to 5"


def test_finished_shards_read_back_in_their_order_level_by_level(tmp_path: Path) -> None:
    kept = PartialRun(tmp_path, "run")
    kept.write_shard("b", {"predictions": rows("test:2"), "deletions": DELETIONS.frame([])}, COST)
    kept.write_shard("a", {"predictions": rows("test:0", "test:1")}, COST)
    assert kept.shard_cost("a") == COST
    assert_frame_equal(kept.read_table(PREDICTIONS, ["a", "b"]), rows("test:0", "test:1", "test:2"))
    assert_frame_equal(kept.read_table(PREDICTIONS, ["b"]), rows("test:2"))
    assert_frame_equal(kept.read_table(DELETIONS, ["a", "b"]), DELETIONS.frame([]))


def test_a_shard_is_finished_when_its_last_file_exists(tmp_path: Path) -> None:
    kept = PartialRun(tmp_path, "run")
    kept.write_shard("a", {"predictions": rows("test:0")}, COST)
    (local_path(kept.folder) / "a.json").unlink()
    assert list((kept.folder / "predictions").glob("a.1.*.parquet"))
    assert kept.shard_cost("a") is None
    assert kept.finished_shards() == []


@pytest.mark.parametrize("pattern", ["a.json", "predictions/a.1.*.parquet"])
@pytest.mark.parametrize("harm", ["shortened", "emptied", "flipped", "gone"])
def test_a_damaged_shard_is_reported(tmp_path: Path, pattern: str, harm: str) -> None:
    kept = PartialRun(tmp_path, "run")
    kept.write_shard("a", {"predictions": rows("test:0")}, COST)
    (path,) = local_path(kept.folder).glob(pattern)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes({"shortened": content[:-5], "flipped": content}.get(harm, b""))
    if harm == "gone":
        path.unlink()
    if (pattern, harm) == ("a.json", "gone"):
        assert kept.shard_cost("a") is None
        return
    with pytest.raises(CorruptFile, match=r"is missing or has changed|written") as raised:
        kept.shard_cost("a")
    assert str(path) in str(raised.value)


def test_shards_are_no_part_of_the_lake(tmp_path: Path) -> None:
    kept = PartialRun(tmp_path, "run")
    kept.write_shard("a", {"predictions": rows("test:0")}, COST)
    assert read.run_ids(tmp_path) == []
    assert read.read_table(tmp_path, "predictions").is_empty()
    with kept.claim(pytest.fail):
        assert kept.exists()
        kept.delete()
    assert not kept.exists()
    assert list(local_path(kept.folder).parent.iterdir()) == []


def test_a_shard_that_cannot_be_stored_is_one_clear_line(tmp_path: Path) -> None:
    kept = PartialRun(tmp_path, "run")
    folder = local_path(kept.folder)
    folder.parent.mkdir()
    folder.touch()
    with pytest.raises(
        LakeError, match=r"shard a of run run could not be written .* kept$"
    ) as told:
        kept.write_shard("a", {"predictions": rows("test:0")}, COST)
    assert "\n" not in str(told.value)
    (tmp_path / "file").touch()
    nowhere = PartialRun(tmp_path / "file", "run")
    with pytest.raises(LakeError, match="the shards of run run could not be written"):
        nowhere.claim(pytest.fail).__enter__()


def test_the_second_process_waits_and_finds_the_shards_of_the_first(tmp_path: Path) -> None:
    kept = PartialRun(tmp_path, "run")
    waiting, found = threading.Event(), list[ComputeCost | None]()

    def second() -> None:
        with kept.claim(waiting.set):
            found.append(kept.shard_cost("a"))

    thread = threading.Thread(target=second)
    with kept.claim(pytest.fail):
        thread.start()
        assert waiting.wait(HANG_S)
        kept.write_shard("a", {"predictions": rows("test:0")}, COST)
        assert not found
    thread.join(HANG_S)
    assert found == [COST]


def test_a_claim_outlives_the_removal_of_its_lock_file(tmp_path: Path) -> None:
    """A process that waited for a removed lock file then locks the new file, as others do."""
    kept = PartialRun(tmp_path, "run")
    waits = {name: threading.Event() for name in ("second", "third")}
    leave = threading.Event()
    order: list[str] = []

    def claim(name: str) -> None:
        with kept.claim(waits[name].set):
            order.append(name)
            assert leave.wait(HANG_S)

    threads = [threading.Thread(target=claim, args=(name,)) for name in waits]
    with kept.claim(pytest.fail):
        threads[0].start()
        assert waits["second"].wait(HANG_S)
    assert not kept.folder.is_dir()
    while not order:
        threads[0].join(0.01)
    threads[1].start()
    assert waits["third"].wait(HANG_S)
    assert order == ["second"]
    leave.set()
    for thread in threads:
        thread.join(HANG_S)
    assert order == ["second", "third"]


def test_a_claim_without_finished_shards_leaves_no_files(tmp_path: Path) -> None:
    kept = PartialRun(tmp_path, "run")
    with pytest.raises(RuntimeError, match="no model"), kept.claim(pytest.fail):
        raise RuntimeError("no model")
    assert list(local_path(kept.folder).parent.iterdir()) == []
