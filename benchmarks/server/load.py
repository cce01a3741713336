"""Put a server under load with wrk."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

LUA = Path(__file__).parent / "load.lua"


@dataclass(frozen=True)
class LoadResult:
    """The result: percentiles in milliseconds; errors are bad statuses and lost sockets."""

    requests: int
    seconds: float
    p50: float
    p95: float
    status_errors: int
    socket_errors: int
    snapshots: frozenset[str]

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds

    @property
    def errors(self) -> int:
        return self.status_errors + self.socket_errors


def run_load(
    host: str,
    targets: Sequence[str],
    clients: int,
    seconds: float,
    folder: Path,
    snapshots: bool = False,
) -> LoadResult:
    """Request the targets in turn with simultaneous clients; `snapshots` records the snapshots."""
    file = folder / "targets.txt"
    file.write_text("\n".join(targets) + "\n")
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds:.0f}s", "--timeout", "30s"]
    command += ["-s", str(LUA), f"http://{host}", "--", str(file)]
    command += ["snapshots"] if snapshots else []
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    _, mark, result = told.stdout.rpartition("RESULT ")
    if not mark:
        # wrk prints the problem, and exits with 0.
        raise SystemExit(f"wrk failed: {told.stdout}{told.stderr}")
    found = json.loads(result)
    return LoadResult(
        requests=found["requests"],
        seconds=found["seconds"],
        p50=found["p50"],
        p95=found["p95"],
        status_errors=found["status_errors"],
        socket_errors=found["socket_errors"],
        snapshots=frozenset(found["snapshots"].split()),
    )
