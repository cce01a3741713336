import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import IO

import pytest
import torch

from prunelake.errors import ModelError
from prunelake.models import devices

HOLDER = """
import sys
from types import SimpleNamespace
from pathlib import Path
import torch
from prunelake.models import devices
torch.cuda.is_available = lambda: True
torch.cuda.get_device_properties = lambda _: SimpleNamespace(uuid=sys.argv[2], name="drawn")
log = lambda text: print(text, flush=True)
devices.acquire_device("auto", Path(sys.argv[1]), log, is_shared=sys.argv[3] == "shared")
print("has it", flush=True)
sys.stdin.read()
"""


def holder(cache: Path, uuid: str, mode: str = "alone") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLDER, str(cache), uuid, mode]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def next_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def test_one_process_holds_a_gpu_until_it_is_killed(tmp_path: Path) -> None:
    first, second, third = (holder(tmp_path, uuid) for uuid in ("g0", "g0", "g1"))
    try:
        owner, waiter = first, second
        if next_line(first).startswith("GPU g0 is taken"):
            owner, waiter = second, first
            assert next_line(second) == "computing on cuda, drawn"
        else:
            assert next_line(second) == "GPU g0 is taken by another sweep: waiting for its end"
        assert next_line(owner) == "has it"
        assert [next_line(third), next_line(third)] == ["computing on cuda, drawn", "has it"]
        assert waiter.poll() is None
        owner.kill()
        assert [next_line(waiter), next_line(waiter)] == ["computing on cuda, drawn", "has it"]
    finally:
        for process in (first, second, third):
            process.kill()
            process.communicate()


def test_sharers_of_a_gpu_keep_others_out(tmp_path: Path) -> None:
    sharers = [holder(tmp_path, "g0", "shared") for _ in range(2)]
    everybody = [*sharers]
    try:
        for sharer in sharers:
            assert [next_line(sharer), next_line(sharer)] == ["computing on cuda, drawn", "has it"]
        alone = holder(tmp_path, "g0")
        everybody.append(alone)
        assert next_line(alone) == "GPU g0 is taken by another sweep: waiting for its end"
        for sharer in sharers:
            assert alone.poll() is None
            sharer.kill()
        assert [next_line(alone), next_line(alone)] == ["computing on cuda, drawn", "has it"]
    finally:
        for process in everybody:
            process.kill()
            process.communicate()


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
    drawn = SimpleNamespace(uuid="g7", name="drawn")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: drawn)
    held: dict[str, IO[str]] = {}
    monkeypatch.setattr(devices, "_gpu_locks", held)
    assert devices.acquire_device("cuda:0", tmp_path, logged.append) == "cuda:0"
    assert devices.acquire_device("auto", tmp_path, logged.append) == "cuda"
    assert logged == ["computing on cuda:0, drawn", "computing on cuda, drawn"]
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
