import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import IO

import pytest
import torch

from prunelake.errors import ModelError
from prunelake.models import devices, gpu_locks

HOLDER = """
import sys
from types import SimpleNamespace
from pathlib import Path
import torch
from prunelake.models import devices
uuids = sys.argv[2].split(",")
torch.cuda.is_available = lambda: True
torch.cuda.device_count = lambda: len(uuids)
torch.cuda.get_device_properties = lambda name: SimpleNamespace(
    uuid=uuids[int(name.removeprefix("cuda:"))], name="drawn"
)
log = lambda text: print(text, flush=True)
devices.acquire_device(sys.argv[4], Path(sys.argv[1]), log, is_shared=sys.argv[3] == "shared")
print("has it", flush=True)
sys.stdin.read()
"""


def holder(
    locks: Path, uuids: str, mode: str = "alone", device: str = "auto"
) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLDER, str(locks), uuids, mode, device]
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
            assert next_line(second) == "computing on cuda:0, drawn"
        else:
            assert next_line(second) == "GPU g0 is taken by another sweep: waiting for its end"
        assert next_line(owner) == "has it"
        assert [next_line(third), next_line(third)] == ["computing on cuda:0, drawn", "has it"]
        assert waiter.poll() is None
        owner.kill()
        assert [next_line(waiter), next_line(waiter)] == ["computing on cuda:0, drawn", "has it"]
    finally:
        for process in (first, second, third):
            process.kill()
            process.communicate()


def test_sharers_of_a_gpu_keep_others_out(tmp_path: Path) -> None:
    sharers = [holder(tmp_path, "g0", "shared") for _ in range(2)]
    everybody = [*sharers]
    try:
        for sharer in sharers:
            assert [next_line(sharer), next_line(sharer)] == [
                "computing on cuda:0, drawn",
                "has it",
            ]
        alone = holder(tmp_path, "g0")
        everybody.append(alone)
        assert next_line(alone) == "GPU g0 is taken by another sweep: waiting for its end"
        for sharer in sharers:
            assert alone.poll() is None
            sharer.kill()
        assert [next_line(alone), next_line(alone)] == ["computing on cuda:0, drawn", "has it"]
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
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: drawn)
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


def test_auto_takes_a_gpu_that_is_free(tmp_path: Path) -> None:
    """Two sweeps find a GPU each of two; the third waits for either, whoever ends first."""
    everybody = [holder(tmp_path, "g0,g1"), holder(tmp_path, "g0,g1", device="cuda")]
    try:
        lines = [next_line(sweep) for sweep in everybody]
        assert sorted(lines) == [f"computing on cuda:{n}, drawn" for n in (0, 1)]
        third = holder(tmp_path, "g0,g1")
        everybody.append(third)
        assert next_line(third) == "all 2 GPUs are taken by another sweep: waiting for its end"
        everybody[1].kill()
        assert next_line(third) == lines[1]
        spread = holder(tmp_path, "g0,g1", device="cuda:all")
        everybody.append(spread)
        assert next_line(spread) == "GPU g0 is taken by another sweep: waiting for its end"
        for sweep in (everybody[0], third):
            sweep.kill()
        said = next_line(spread)
        while said.startswith("GPU g1 is taken"):
            said = next_line(spread)
        assert said == "computing on cuda:0, cuda:1, 2 x drawn"
    finally:
        for process in everybody:
            process.kill()
            process.communicate()


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:all"])
def test_a_broken_driver_is_no_reason_to_compute_on_the_cpu(
    device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ModelError, match=rf"device '{device}' cannot be used .*nvidia-smi"):
        devices.acquire_device(device, tmp_path, print)
