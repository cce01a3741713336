"""The memory of sweeps of many rows on a CPU, in addition to the weights.

    python -m benchmarks.memory [--rows 100,2000] [--analysed 10000,100000]

Each case is a separate process, and its largest resident size counts. The cases are a model that is
loaded and used once; sweeps of a task that repeats the rows of a bundled task, with a few rows
explained; and analyses of runs with drawn predictions. Writes docs/measurements/memory.md.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import yaml

from benchmarks import report
from benchmarks.lake import random_run, run_row
from prunelake.analysis.analyse import analyse
from prunelake.lake import commit
from prunelake.models.loading import load_model
from prunelake.models.sources import resolve_model
from prunelake.settings import Settings
from prunelake.spec import DEFAULT_MODEL, Explanation, Rows, SweepSpec
from prunelake.sweeps.run import run_sweep
from prunelake.tasks import catalogue
from prunelake.tasks.rows import read_records

COLUMNS = ("what runs", "peak, MB", "beside the weights, MB")
TASK = "opinions"
LEVELS = (0, 8, 15)
EXPLAINED = 4


def load_bytes() -> int:
    """The bytes of the weights, loaded as a sweep does."""
    source = resolve_model(DEFAULT_MODEL, Settings().cache.expanduser())
    model = load_model(source, "float32", "cpu").model
    return sum(p.numel() * p.element_size() for p in model.parameters())


def sweep_bytes(rows: int, folder: Path) -> None:
    """A sweep of `rows` rows: the rows of a bundled task, repeated."""
    task = catalogue.get_task(TASK)
    _, known = read_records(task, None)
    with (folder / "many.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(known[n % len(known)]) + "\n" for n in range(rows))
    own = task.model_dump(mode="json", exclude_none=True)
    own |= {"name": "many", "bundled": "many.jsonl"}
    path = folder / "many.yaml"
    path.write_text(yaml.safe_dump(own), encoding="utf-8")
    spec = SweepSpec(
        task=str(path),
        rows=Rows(first=rows),
        levels=LEVELS,
        explain=Explanation(rows=EXPLAINED, operators=("delete_text",)),
    )
    run_sweep(spec, Settings(lake=folder / "lake", data=None))


def analysis_bytes(rows: int, folder: Path) -> None:
    """The analysis of a drawn run of `rows` rows at 17 levels; a tenth are explained."""
    run = run_row(0, 0) | {"example_count": rows}
    commit.write_run(folder / "lake", run, random_run(run, 0, rows))
    analyse(folder / "lake", run["run_id"])


def child(what: str, rows: int) -> None:
    """Run one case and print its memory in bytes."""
    with tempfile.TemporaryDirectory() as folder:
        weights = 0 if what == "analyse" else load_bytes()
        if what == "sweep":
            sweep_bytes(rows, Path(folder))
        elif what == "analyse":
            analysis_bytes(rows, Path(folder))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"peak": peak, "weights": weights}))


def cells(name: str, what: str, rows: int) -> list[str]:
    """One row of the table, measured in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.memory", "--child", what, str(rows)]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(told.stdout.splitlines()[-1])
    cells = [name, *(f"{n / 1e6:,.0f}" for n in (found["peak"], found["peak"] - found["weights"]))]
    print(" | ".join(cells), file=sys.stderr, flush=True)
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default="100,2000", help="rows of sweeps")
    parser.add_argument("--analysed", default="1000,10000,100000", help="rows of analyses")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child[0], int(options.child[1]))
        return
    load = os.getloadavg()[0]
    rows = [cells("the model, loaded", "load", 0)]
    for count in options.rows.split(","):
        rows.append(cells(f"a sweep of {int(count):,} rows", "sweep", int(count)))
    for count in options.analysed.split(","):
        rows.append(cells(f"an analysis of {int(count):,} rows", "analyse", int(count)))
    command = " ".join(["python -m benchmarks.memory", *sys.argv[1:]])
    report.write(
        "memory",
        [
            "# Memory",
            "",
            report.head(command, "cpu", ("torch", "polars", "duckdb"), load),
            "",
            f"Greatest resident size of a process of its own. Sweeps: SmolLM2-135M in float32 at "
            f"levels {', '.join(map(str, LEVELS))}, {EXPLAINED} rows explained. Analyses: "
            "4 options at 17 levels, 131 rows explained by 2 methods and 3 seeds.",
            "",
            *report.table(COLUMNS, rows),
        ],
    )


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    main()
