"""The waits of readers, beside the same waits with former code.

    python -m benchmarks.readers --folder FOLDER [--former 19aef12] [--rounds 3] [--runs 4000]

Each version of the code makes its own lakes of drawn numbers in FOLDER, because the format of lakes
has changed: an empty lake, a lake of one run and a lake of 40 runs (200 examples, 20 of them
explained). Only the new code makes a lake of RUNS runs without explanations, which takes 4 minutes
and 4 GB. Existing lakes are used again; delete FOLDER afterwards.

Both versions run in turns: the imports, with files that are not in the memory of the machine; the
first screen of a new server in Chromium; the report of 40 runs; and 32 clients (wrk) whose requests
are all different: charts as JSON, and rows of /correlations. All times are by the clock, so nothing
else may run. Writes docs/measurements/readers.md.
"""

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import product, zip_longest
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx

from benchmarks.page import new_reader, wait_s
from benchmarks.report import head, table, write
from benchmarks.server.load import LoadResult, run_load
from benchmarks.server.serving import served
from benchmarks.versions import CODE, FORMER, answer_of, checked_out, environment

EMPTY, ONE, FORTY = "0", "1", "40"
CLIENTS = 32
LEVELS, METRICS = range(1, 17), ("ece", "brier", "nll")
IMPORTS = ("prunelake.cli.app", "prunelake.api.app")

# Both versions have these functions.
MAKE_LAKE = """
import inspect, json, sys
from pathlib import Path
from benchmarks import lake
from prunelake.analysis.analyse import analyse
from prunelake.lake import commit
from prunelake.lake.publish import publish

if __name__ == "__main__":
    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    (folder / "runs").mkdir(parents=True)
    lake.EXPLAINED = 20
    has_option = "explained" in inspect.signature(lake.random_run).parameters
    explained = {"explained": 20} if has_option else {}
    if count > 40:
        lake.make_segments(folder.parent / "source", folder, count)
    for number in range(count if count <= 40 else 0):
        run = lake.run_row(*divmod(number, lake.TASKS)) | {"example_count": 200}
        run["spec"] = json.dumps({name: run[name] for name in ("model", "task")})
        commit.write_run(folder, run, lake.random_run(run, number, 200, **explained))
        analyse(folder, run["run_id"])
    publish(folder, analyse)
    print(json.dumps(count))
"""

IMPORT = """
import json, sys, time
from importlib import import_module

if __name__ == "__main__":
    began = time.perf_counter()
    import_module(sys.argv[1])
    print(json.dumps(time.perf_counter() - began))
"""

# As in `prunelake report`, the processes that draw do not load what the first process needs.
REPORT = """
if __name__ == "__main__":
    import json, sys, time
    from pathlib import Path
    from prunelake.api.report.document import write_report
    lake, out = map(Path, sys.argv[1:])
    began = time.perf_counter()
    write_report(lake, out)
    print(json.dumps([time.perf_counter() - began, out.stat().st_size]))
"""


def make_lake(code: Path, folder: Path, count: int, scratch: Path) -> Path:
    """A published lake of this version of the code; an existing lake is published again."""
    lake = folder / str(count)
    if not lake.exists():
        print(f"making {lake}", file=sys.stderr, flush=True)
        answer_of(code, scratch / "make_lake.py", MAKE_LAKE, str(lake), str(count))
    command = [sys.executable, "-c", "from prunelake.cli.app import main; main()", "publish"]
    subprocess.run([*command, "--lake", str(lake)], env=environment(code), check=True)
    return lake


def forget_files(folders: Sequence[Path]) -> None:
    """Let the machine drop the files of these folders from its memory."""
    os.sync()
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file():
                file = os.open(path, os.O_RDONLY)
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(file)


def different_charts(url: str) -> list[str]:
    """The addresses of charts that all differ, in turns of each kind of chart.

    A level or a metric is given only to a chart that depends on it.
    """
    runs = run_ids(url)
    queues = []
    for chart in httpx.get(f"{url}/charts", timeout=60).json():
        levels = LEVELS if "level" in chart["takes"] else [None]
        metrics = METRICS if "metric" in chart["takes"] else [None]
        targets = [
            f"/charts/{chart['name']}.json?{urlencode(given)}"
            for run, level, metric in product(runs, levels, metrics)
            for values in [{"run_id": run, "level": level, "metric": metric}]
            for given in [{name: value for name, value in values.items() if value is not None}]
        ]
        if httpx.get(url + targets[0], timeout=60).status_code == 200:
            random.Random(0).shuffle(targets)
            queues.append(targets)
    return [target for turn in zip_longest(*queues) for target in turn if target]


def different_correlations(url: str) -> list[str]:
    """Addresses that all give 100 rows of a run; no two of them are equal."""
    runs = run_ids(url)
    return [
        f"/correlations?run_id={runs[number % len(runs)]}&level_count_gte={-number}"
        for number in range(100_000)
    ]


def run_ids(url: str) -> list[str]:
    """The ids of all runs."""
    models = httpx.get(f"{url}/models", timeout=60).json()
    return [run["run_id"] for model in models for run in model["runs"]]


def load_costs(
    code: Path, lake: Path, seconds: float, scratch: Path
) -> Iterator[tuple[str, float]]:
    """Requests per second, p95 and the server's CPU of 32 clients whose requests all differ."""
    for kind, targets_of in (
        ("different charts", different_charts),
        ("`/correlations`, cold", different_correlations),
    ):
        with served(
            lake, scratch / "server.log", PYTHONPATH=environment(code)["PYTHONPATH"]
        ) as server:
            targets = targets_of(server.url)
            before = server.cpu_seconds
            found: LoadResult = run_load(server.address, targets, CLIENTS, seconds, scratch)
            cpu = server.cpu_seconds - before
        if found.requests > len(targets):
            raise SystemExit(f"{kind}: only {len(targets)} requests differ; lower --seconds")
        yield f"{CLIENTS} clients, {kind}: requests a second", found.rate
        yield f"{CLIENTS} clients, {kind}: p95", found.p95 / 1e3
        yield f"{CLIENTS} clients, {kind}: CPU of a request", cpu / found.requests


def measured(code: Path, lakes: dict[str, Path], seconds: float, scratch: Path) -> dict[str, float]:
    """The waits with this version of the code, in seconds."""
    took: dict[str, float] = {}
    packages = Path(httpx.__file__).parents[1]
    for module in IMPORTS:
        answer_of(code, scratch / "import.py", IMPORT, module)  # compiles the files
        forget_files([packages, *(code / name for name in ("lib", "api", "flows"))])
        took[f"`import {module}`, cold"] = answer_of(code, scratch / "import.py", IMPORT, module)
    for name, lake in lakes.items():
        with new_reader(code, lake, scratch / "server.log") as (server, page):
            runs = {EMPTY: "an empty lake", ONE: "one run"}.get(name, f"{int(name):,} runs")
            took[f"first screen, {runs}"] = wait_s(server, page)
    report: Any = answer_of(
        code, scratch / "report.py", REPORT, str(lakes[FORTY]), str(scratch / "report.html")
    )
    took["report of 40 runs"], took["report of 40 runs, MB"] = report[0], report[1] / 1e6
    return took | dict(load_costs(code, lakes[FORTY], seconds, scratch))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--former", default=FORMER)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=4000, help="runs of the largest lake")
    parser.add_argument("--seconds", type=float, default=10, help="of each load")
    asked = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is missing: apt-get install wrk")
    load = os.getloadavg()[0]
    found: dict[str, list[dict[str, float]]] = {"former": [], "now": []}
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        versions = {"former": checked_out(asked.former, scratch / "code"), "now": CODE}
        lakes = {
            name: {
                count: make_lake(code, asked.folder / name, int(count), scratch)
                for count in (EMPTY, ONE, FORTY, *([str(asked.runs)] if name == "now" else []))
            }
            for name, code in versions.items()
        }
        for _ in range(asked.rounds):
            for name, code in versions.items():
                took = measured(code, lakes[name], asked.seconds, scratch)
                found[name].append(took)
                print(name, took, file=sys.stderr, flush=True)
    write(
        "readers",
        [
            head(_command(asked), "cpu", ["duckdb", "playwright", "vl-convert-python"], load),
            "",
            *table(
                ["elapsed seconds, if no other unit", "former", "now", "ratio"], [*_rows(found)]
            ),
        ],
    )


def _rows(found: dict[str, list[dict[str, float]]]) -> Iterator[list[str]]:
    """The medians of both versions, and how much better the new one is."""
    for task in found["now"][0]:
        now = statistics.median(took[task] for took in found["now"])
        formers = [took[task] for took in found["former"] if task in took]
        if not formers:
            yield [task, "", f"{now:.4g}", ""]
            continue
        former = statistics.median(formers)
        ratio = now / former if task.endswith("a second") else former / now
        yield [task, f"{former:.4g}", f"{now:.4g}", f"{ratio:.1f} x"]


def _command(asked: argparse.Namespace) -> str:
    return (
        f"python -m benchmarks.readers --folder FOLDER --former {asked.former} "
        f"--rounds {asked.rounds} --runs {asked.runs}"
    )


if __name__ == "__main__":
    main()
