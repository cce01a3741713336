"""A server under load while new snapshots are published."""

import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from benchmarks.server.load import run_load
from benchmarks.server.serving import Server, served
from prunelake.analysis.analyse import analyse
from prunelake.lake.files.paths import SNAPSHOT_FILE
from prunelake.lake.publish import publish
from tests.support.runs import example_runs

EVERY_S = 5.0
CLIENTS = 32
TARGETS = [
    f"{path}{'&' if '?' in path else '?'}level_gte=-{number}"
    for number in range(500)
    for path in ("/verdicts", "/views/metrics", "/views/deltas?limit=20")
] + ["/correlations", "/models", "/findings", "/charts/confidence.json", "/health"]


@dataclass
class Observations:
    """The observations of another client, and the server's memory (MB) and open files over time."""

    snapshots: list[str] = field(default_factory=list)
    unchanged: int = 0
    faults: list[str] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    files: list[float] = field(default_factory=list)


def prepared(lake: Path, folder: Path, count: int) -> list[Path]:
    """Snapshots of a lake that grows by one run each time."""
    found = []
    for number in range(count):
        example_runs.explained_run(lake, f"run {number}", levels=[0, 1, 2])
        publish(lake, analyse)
        found.append(folder / f"{number}.duckdb")
        shutil.copy(lake / SNAPSHOT_FILE, found[-1])
    return found


def replaced(lake: Path, snapshots: list[Path], stop: threading.Event) -> None:
    """Replace the snapshot by the next one, again and again."""
    number = 0
    while not stop.wait(EVERY_S):
        number += 1
        arriving = lake / "arriving"
        shutil.copy(snapshots[number % len(snapshots)], arriving)
        arriving.replace(lake / SNAPSHOT_FILE)


def published(lake: Path, stop: threading.Event) -> None:
    """Write a run and publish, again and again."""
    number = 0
    while not stop.wait(EVERY_S):
        number += 1
        example_runs.explained_run(lake, f"new {number}")
        publish(lake, analyse)


def watch(server: Server, stop: threading.Event, watched: Observations) -> None:
    """Request with the last ETag: 304 while the snapshot stays, then an answer from the next."""
    tag = ""
    with httpx.Client(base_url=server.url, timeout=30) as client:
        while not stop.wait(0.2):
            answer = client.get("/correlations", headers={"If-None-Match": tag} if tag else {})
            snapshot = answer.headers.get("PruneLake-Snapshot", "")
            if answer.status_code == 304 and answer.headers["ETag"] == tag:
                watched.unchanged += 1
            elif answer.status_code == 200 and answer.headers["ETag"] != tag:
                if answer.json()["snapshot"] != snapshot:
                    watched.faults.append("an answer of two snapshots")
                watched.snapshots.append(snapshot)
                tag = answer.headers["ETag"]
            else:
                watched.faults.append(f"{answer.status_code} {answer.text[:200]}")
            pages = int(Path(f"/proc/{server.pid}/statm").read_text().split()[1])
            watched.memory.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
            watched.files.append(len([*Path(f"/proc/{server.pid}/fd").iterdir()]))


def soak(folder: Path, seconds: float, is_real: bool) -> Iterator[str]:
    """Put a server under load while snapshots are replaced, or runs written and published."""
    lake = folder / ("written" if is_real else "replaced")
    lake.mkdir()
    snapshots = prepared(lake, folder, 1 if is_real else 4)
    watched, stop = Observations(), threading.Event()
    with served(lake, folder / "soak.log") as server:
        publisher = (
            threading.Thread(target=published, args=(lake, stop))
            if is_real
            else threading.Thread(target=replaced, args=(lake, snapshots, stop))
        )
        watcher = threading.Thread(target=watch, args=(server, stop, watched))
        for thread in (publisher, watcher):
            thread.start()
        load = run_load(server.address, TARGETS, CLIENTS, seconds, folder, snapshots=True)
        stop.set()
        for thread in (publisher, watcher):
            thread.join()
    how = "a run is written and published" if is_real else "another snapshot is put in place"
    yield (
        f"{seconds:g} s, {CLIENTS} clients, every {EVERY_S:g} s {how}: {load.requests:,} requests "
        f"({load.rate:,.0f} a second, p95 {load.p95:.1f} ms), {load.errors} errors; answers of "
        f"{len(load.snapshots)} snapshots; one more client saw {len(watched.snapshots)} of them, "
        f"{watched.unchanged} times 304, {len(watched.faults)} faults {watched.faults[:3] or ''}; "
        f"most in each third of the time: {maxima_by_third(watched.memory)} MB of memory, "
        f"{maxima_by_third(watched.files)} open files."
    )
    yield ""


def maxima_by_third(values: list[float]) -> str:
    """The maximum in the first, second and last third."""
    third = max(len(values) // 3, 1)
    parts = values[:third], values[third : 2 * third], values[2 * third :]
    return ", ".join(f"{max(part, default=0):.0f}" for part in parts)
