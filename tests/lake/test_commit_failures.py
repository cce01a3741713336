"""A writer that fails, is killed or has rivals: a run is written completely or not at all."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier

import pytest
from polars.testing import assert_frame_equal

from prunelake.errors import LakeError
from prunelake.lake import commit, read
from prunelake.lake.files.damage import find_damage
from prunelake.lake.maintenance.garbage import collect_garbage
from prunelake.lake.maintenance.verify import verify_lake
from prunelake.lake.storage.location import create
from prunelake.schema.run_tables import RUN_TABLES
from tests.support.lakes.lake_files import manifest_of
from tests.support.runs.lake_rows import frames, identity_of, prediction, small_analysis, small_run

RUN_ID = identity_of("run")[1]


REQUIRED = [name for name, table in RUN_TABLES.items() if not table.is_optional]

FILES = len(REQUIRED) + 1
"""The data files of a run, and its manifest."""


def temporary_files(folder: Path) -> list[Path]:
    return list(folder.rglob("*.tmp"))


@pytest.mark.parametrize("failing_call", range(FILES))
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_at_any_file_leaves_no_run_and_no_temporary_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failing_call: int,
    error: BaseException,
) -> None:
    calls = 0
    link = os.link

    def failing_link(source: Path, target: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == failing_call + 1:
            raise error
        link(source, target)

    monkeypatch.setattr(os, "link", failing_link)
    expected = LakeError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as raised:
        commit.write_run(tmp_path, *small_run())
    if isinstance(error, OSError):
        assert "No space left on device" in str(raised.value)
        assert "\n" not in str(raised.value)
    assert read.run_ids(tmp_path) == []
    assert temporary_files(tmp_path) == []
    run, written = small_run()
    assert commit.write_run(tmp_path, run, written)
    assert_frame_equal(read.read_table(tmp_path, "predictions"), written["predictions"])
    assert list(find_damage(tmp_path)) == []


WRITER = """
import os, signal, sys
from pathlib import Path
from prunelake.lake.commit import write_run
from tests.support.runs.lake_rows import small_run

link, calls = os.link, 0

def link_or_stop(source, target):
    global calls
    calls += 1
    if calls == int(sys.argv[2]):
        os.kill(os.getpid(), getattr(signal, sys.argv[3]))
    link(source, target)

os.link = link_or_stop
sys.exit(0 if write_run(Path(sys.argv[1]), *small_run()) else 5)
"""


def start_writer(*arguments: str, code: str = WRITER) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize("killed_at", [1, 3, FILES])
def test_a_killed_writer_leaves_no_run_and_it_can_be_written_again(
    tmp_path: Path, killed_at: int
) -> None:
    with start_writer(str(tmp_path), str(killed_at), "SIGKILL") as process:
        assert process.wait() == -signal.SIGKILL
    assert read.run_ids(tmp_path) == []
    assert len(temporary_files(tmp_path)) == 1
    left = verify_lake(tmp_path)
    assert len(left) == (2 if killed_at == FILES else killed_at)
    assert ("has lost its manifest" in left[0].problem) == (killed_at == FILES)
    run, written = small_run()
    assert commit.write_run(tmp_path, run, written)
    for name, frame in written.items():
        assert_frame_equal(read.read_table(tmp_path, name), frame)
    commit.write_analysis(tmp_path, *small_analysis(RUN_ID))
    assert [f.problem for f in verify_lake(tmp_path)] == ["leftover: a temporary file"]
    assert collect_garbage(tmp_path, timedelta(0)) == 1
    assert verify_lake(tmp_path) == []


def test_a_writer_that_slept_too_long_writes_its_files_again(tmp_path: Path) -> None:
    with start_writer(str(tmp_path), "5", "SIGSTOP") as process:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        assert collect_garbage(tmp_path, timedelta(0)) == 5  # four data files, and a temporary file
        process.send_signal(signal.SIGCONT)
        assert process.wait() == 0, process.communicate()
    assert manifest_of(tmp_path, RUN_ID).name == f"{RUN_ID}.2.json"
    for name, frame in small_run()[1].items():
        assert_frame_equal(read.read_table(tmp_path, name), frame)
    assert list(find_damage(tmp_path)) == []


FULL_DISK = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))
from pathlib import Path
from prunelake.errors import LakeError
from prunelake.lake.commit import write_run
from tests.support.runs.lake_rows import small_run
try:
    write_run(Path(sys.argv[1]), *small_run())
except LakeError as error:
    sys.exit(str(error))
"""


def test_a_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    with start_writer(str(tmp_path), code=FULL_DISK) as process:
        _, message = process.communicate()
    assert process.returncode == 1
    assert message.decode().count("\n") == 1
    assert f"run {RUN_ID} could not be written" in message.decode()
    assert read.run_ids(tmp_path) == []
    assert temporary_files(tmp_path) == []


def test_a_lake_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LakeError, match="could not be written to"):
        commit.write_run(tmp_path / "file", *small_run())


def test_exactly_one_of_many_writers_of_a_file_creates_it(tmp_path: Path) -> None:
    contents = [bytes([number]) * 1000 for number in range(8)]
    start = Barrier(len(contents))

    def write(content: bytes) -> bool:
        start.wait()
        return create(tmp_path / "file", content)

    with ThreadPoolExecutor(len(contents)) as pool:
        wrote = list(pool.map(write, contents))
    assert sum(wrote) == 1
    assert (tmp_path / "file").read_bytes() == contents[wrote.index(True)]
    assert temporary_files(tmp_path) == []


def test_exactly_one_of_many_writers_of_a_run_succeeds(tmp_path: Path) -> None:
    run, _ = small_run()
    versions = [
        frames(predictions=[prediction(RUN_ID, 0, f"test:{i}", [-1.0, -2.0])]) for i in range(8)
    ]
    with ThreadPoolExecutor(8) as pool:
        wrote = list(pool.map(lambda v: commit.write_run(tmp_path, run, v), versions))
    assert sum(wrote) == 1
    winner = versions[wrote.index(True)]["predictions"]
    assert_frame_equal(read.read_table(tmp_path, "predictions"), winner)
    assert list(find_damage(tmp_path)) == []
