import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import IO

import pytest
import torch

from prunelake.errors import ModelError
from prunelake.models.gpu import devices, gpu_locks

HOLDER = """
import sys
from pathlib import Path
from prunelake.models.gpu.gpu_locks import lock_all, lock_first_free
uuids, mode = sys.argv[2].split(","), sys.argv[3]
log = lambda text: print(text, flush=True)
if mode == "all":
    lock_all(uuids, Path(sys.argv[1]), log)
    log("has all")
else:
    log("has " + lock_first_free(uuids, Path(sys.argv[1]), log, is_shared=mode == "shared"))
sys.stdin.read()
"""


def holder(locks: Path, uuids: str, mode: str = "alone") -> subprocess.Popen[str]:
    """A process that locks one of these GPUs, or all, and says so."""
    command = [sys.executable, "-c", HOLDER, str(locks), uuids, mode]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def next_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def end(processes: list[subprocess.Popen[str]]) -> None:
    for process in processes:
        process.kill()
        process.communicate()


def test_one_process_holds_a_gpu_until_it_is_killed(tmp_path: Path) -> None:
    first, second, third = everybody = [holder(tmp_path, uuid) for uuid in ("g0", "g0", "g1")]
    try:
        owner, waiter = first, second
        if next_line(first).startswith("GPU g0 is taken"):
            owner, waiter = second, first
            assert next_line(second) == "has g0"
        else:
            assert next_line(second) == "GPU g0 is taken by another sweep: waiting for its end"
        assert next_line(third) == "has g1"
        assert waiter.poll() is None
        owner.kill()
        assert next_line(waiter) == "has g0"
    finally:
        end(everybody)


def test_sharers_of_a_gpu_keep_others_out(tmp_path: Path) -> None:
    sharers = [holder(tmp_path, "g0", "shared") for _ in range(2)]
    everybody = [*sharers]
    try:
        assert [next_line(sharer) for sharer in sharers] == ["has g0"] * 2
        alone = holder(tmp_path, "g0")
        everybody.append(alone)
        assert next_line(alone) == "GPU g0 is taken by another sweep: waiting for its end"
        for sharer in sharers:
            assert alone.poll() is None
            sharer.kill()
        assert next_line(alone) == "has g0"
    finally:
        end(everybody)


def test_a_sweep_takes_any_gpu_that_is_free(tmp_path: Path) -> None:
    """Two sweeps find a GPU each of two; the third waits for the first that is free."""
    everybody = [holder(tmp_path, "g0,g1") for _ in range(2)]
    try:
        lines = [next_line(sweep) for sweep in everybody]
        assert sorted(lines) == ["has g0", "has g1"]
        third = holder(tmp_path, "g0,g1")
        everybody.append(third)
        assert next_line(third) == "all 2 GPUs are taken by another sweep: waiting for its end"
        everybody[1].kill()
        assert next_line(third) == lines[1]
        spread = holder(tmp_path, "g1,g0", "all")
        everybody.append(spread)
        assert next_line(spread) == "GPU g0 is taken by another sweep: waiting for its end"
        for sweep in (everybody[0], third):
            sweep.kill()
        said = next_line(spread)
        while said.startswith("GPU g1 is taken"):
            said = next_line(spread)
        assert said == "has all"
    finally:
        end(everybody)


def gpus(monkeypatch: pytest.MonkeyPatch, *uuids: str) -> None:
    """GPUs with these ids."""

    def properties(name: str) -> SimpleNamespace:
        return SimpleNamespace(uuid=uuids[int(name.removeprefix("cuda:"))], name="drawn")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(uuids))
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)


@pytest.mark.parametrize("requested", ["auto", "cuda"])
def test_the_device_is_the_gpu_that_was_free(
    requested: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(monkeypatch, "g0", "g1")
    monkeypatch.setattr(devices, "lock_first_free", lambda uuids, *_: uuids[1])
    logged: list[str] = []
    assert devices.acquire_device(requested, tmp_path, logged.append) == "cuda:1"
    assert logged == ["computing on cuda:1, drawn"]


def test_a_spread_model_locks_all_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, "g0", "g1")
    locked: list[str] = []
    monkeypatch.setattr(devices, "lock_all", lambda uuids, *_: locked.extend(uuids))
    logged: list[str] = []
    assert devices.acquire_device("cuda:all", tmp_path, logged.append) == "cuda:all"
    assert locked == ["g0", "g1"]
    assert logged == ["computing on cuda:0, cuda:1, 2 x drawn"]


def test_the_log_names_the_device_or_the_missing_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert devices.acquire_device("auto", tmp_path, logged.append) == "cpu"
    assert devices.acquire_device("cpu", tmp_path, logged.append) == "cpu"
    assert logged == [
        "no GPU here: computing on the CPU",
        "computing on cpu, as the settings say",
    ]
    assert not list(tmp_path.iterdir())


def test_a_process_does_not_wait_for_its_own_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[str] = []
    gpus(monkeypatch, "g7")
    held: dict[str, IO[str]] = {}
    monkeypatch.setattr(gpu_locks, "_held", held)
    for device in ("cuda:0", "auto", "cuda"):
        assert devices.acquire_device(device, tmp_path, logged.append) == "cuda:0"
    assert logged == ["computing on cuda:0, drawn"] * 3
    held["g7"].close()


def test_an_absent_gpu_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(_: str) -> None:
        raise AssertionError("Invalid device id")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", absent)
    with pytest.raises(ModelError, match="'cuda:9' cannot be used"):
        devices.acquire_device("cuda:9", tmp_path, print)


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:all"])
def test_a_broken_driver_is_no_reason_to_compute_on_the_cpu(
    device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ModelError, match=rf"device '{device}' cannot be used .*nvidia-smi"):
        devices.acquire_device(device, tmp_path, print)
