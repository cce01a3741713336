"""The output of the benchmarks: a header with machine and versions, and tables."""

import os
import platform
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

from benchmarks.paths import RESULTS


def head(command: str, device: str, packages: Sequence[str], load: float) -> str:
    """Command, date, machine, load at the start, and versions, in one sentence."""
    told = ", ".join(f"{name} {version(name)}" for name in packages)
    return (
        f"`{command}`, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC: {machine(device)}, "
        f"{torch.get_num_threads()} threads, load average {load:.1f} at the start; {told}."
    )


def machine(device: str) -> str:
    """The GPU, or the processor and its cores."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    names = Path("/proc/cpuinfo")
    lines = names.read_text().splitlines() if names.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if "model name" in line), "")
    return f"{model or platform.machine()}, {os.cpu_count()} cores"


def table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(names)} |"
    yield "|---|" + "---:|" * (len(names) - 1)
    for row in rows:
        yield f"| {' | '.join(row)} |"


def write(name: str, lines: Sequence[str]) -> None:
    """Print the lines and keep them as `docs/measurements/<name>.md`."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
