"""What watching costs: deciding over a lake of many runs, and rounds with nothing to do.

`python benchmarks/orchestration.py` draws a lake of 10,000 runs (their `runs` files: nothing else
is read to decide), and prints a table. `--runs` and `--rounds` change the sizes.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import yaml

from prunelake import parquet
from prunelake.evaluations import Evaluation
from prunelake.ledger import Attempt
from prunelake.spec import Rows, Settings, SweepSpec
from prunelake.starter import End
from prunelake.tables import RUNS
from prunelake.watch import Round, State
from prunelake.watchlist import Watchlist, read

TASKS = ("everyday_knowledge", "opinions")
SEEDS = 5
REPEATS = 5


class Nobody:
    """Starts nothing: what it is asked for is an error."""

    def start(self, evaluation: Evaluation, attempt: Attempt) -> str | None:  # noqa: ARG002  # a Starter
        raise AssertionError(f"{evaluation.spec} was started")

    def end(self, attempt: Attempt, alive_at: datetime) -> End | None:  # noqa: ARG002  # a Starter
        return None


def write_models(folder: Path, count: int) -> None:
    for number in range(count):
        model = folder / f"model-{number:04}"
        model.mkdir(parents=True)
        (model / "config.json").write_text("{}")
        (model / "model.safetensors").write_text(str(number))
        for file in model.iterdir():
            os.utime(file, (0, 0))  # not just written


def write_watchlist(folder: Path) -> Watchlist:
    path = folder / "watchlist.yaml"
    entry = {
        "folder": "models",
        "tasks": list(TASKS),
        "strategies": [f"random:{seed}" for seed in range(SEEDS)],
        "rows": {"first": 4},
        "explain": None,
    }
    path.write_text(yaml.safe_dump({"models": [entry]}))
    return read(path)


def write_runs(settings: Settings, watchlist: Watchlist, count: int, in_segments: bool) -> None:
    """`runs` files of what the watchlist asks for, up to `count`, and others up to it."""
    from prunelake.parquet import FILES_KEY
    from prunelake.revisions import Found, find

    (entry,) = watchlist.entries
    models = [found for found in find(entry, settings.cache) if isinstance(found, Found)]
    wanted = [(model, spec) for model in models for spec in entry.specs(model.model)]
    other = SweepSpec(task="opinions", rows=Rows(first=5))
    rows = []
    for number in range(count):
        model, spec = wanted[number] if number < len(wanted) else (models[0], other)
        rows.append(run_row(number, model.model, model.revision, spec))
    (Path(str(settings.lake)) / "runs").mkdir(parents=True)
    size = 1000 if in_segments else 1
    for start in range(0, count, size):
        chunk = rows[start : start + size]
        name = f"segment-{start:016}" if in_segments else chunk[0]["run_id"]
        RUNS.frame(chunk).write_parquet(
            Path(str(settings.lake)) / "runs" / f"{name}.parquet",
            compression="zstd",
            metadata={
                parquet.FORMAT_KEY: "1",
                parquet.TABLE_KEY: "runs",
                FILES_KEY: json.dumps([]),
            },
        )


def run_row(number: int, model: str, revision: str, spec: SweepSpec) -> dict[str, object]:
    return {
        "run_id": f"{number:016x}",
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
        "model": model,
        "revision": revision,
        "architecture": "llama",
        "strategy": spec.strategy.label,
        "task": spec.task,
        "split": "test",
        "example_count": 4,
        "levels": [0, 1],
        "layer_count": 4,
        "removal_order": [0],
        "dtype": "float32",
        "device": "drawn",
        "code_version": "0",
        "spec": spec.model_dump_json(),
        "identity": "{}",
        "duration_s": 1.0,
        "forward_tokens": 1,
        "files": [],
    }


def decide(watchlist: Watchlist, settings: Settings, missing: int) -> float:
    """Seconds of one dry round, median; what is missing has to be what was left out."""
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        lines = Round(watchlist, settings, Nobody(), is_dry=True).run()
        times.append(time.perf_counter() - began)
        states = [line.state for line in lines]
        found = states.count(State.missing) + states.count(State.waiting)
        assert found == missing, f"{found} missing instead of {missing}"
    return statistics.median(times)


@contextmanager
def drawn(runs: int, missing: int, in_segments: bool) -> Iterator[tuple[Watchlist, Settings]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = Settings(lake=folder / "lake", cache=folder / "cache")
        models = (runs + missing) // (len(TASKS) * SEEDS)
        write_models(folder / "models", models)
        watchlist = write_watchlist(folder)
        write_runs(settings, watchlist, runs, in_segments)
        yield watchlist, settings


def bytes_of(*folders: Path) -> tuple[int, int]:
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return len(files), sum(path.stat().st_size for path in files)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=1_000)
    options = parser.parse_args()
    print(f"`python benchmarks/orchestration.py`, {datetime.now(UTC):%Y-%m-%d}: ", end="")
    print(f"{os.cpu_count()} cores, polars {pl.__version__}.\n")
    print("| watch | |\n|---|---:|")
    for in_segments in (False, True):
        with drawn(options.runs, 100, in_segments) as (watchlist, settings):
            seconds = decide(watchlist, settings, 100)
        kept = "in segments" if in_segments else "a file each"
        print(f"| decides, {options.runs:,} runs {kept} | {seconds:.2f} s |")
    with drawn(100, 0, False) as (watchlist, settings):
        before = bytes_of(Path(str(settings.lake)), settings.cache)
        began = time.perf_counter()
        for _ in range(options.rounds):
            assert Round(watchlist, settings, Nobody()).run() == []
        each = (time.perf_counter() - began) / options.rounds
        after = bytes_of(Path(str(settings.lake)), settings.cache)
    print(f"| an empty round, 100 runs, 10 models | {each * 1e3:.0f} ms |")
    grown = f"{after[0] - before[0]} files, {after[1] - before[1]} bytes"
    print(f"| what {options.rounds:,} empty rounds leave in lake and cache | {grown} |")


if __name__ == "__main__":
    main()
