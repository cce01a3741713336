"""The cost of orchestration: watching, the flow around a sweep, its queue, workers, nodes of Ray.

    python benchmarks/orchestration.py [--parts watch,flow,queued,workers,ray]

`watch` draws a lake of 10,000 runs (only their `runs` files, because deciding reads nothing else).
The other parts sweep SmolLM2-135M with a Prefect server of their own. Writes its part of
docs/measurements/orchestration.md.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path

import polars as pl
import yaml

from benchmarks.paths import RESULTS
from benchmarks.sweeps import flow_overhead, one_thread, queued, ray, server, workers
from prunelake.lake.attempt_log import Attempt
from prunelake.lake.commit import write_run
from prunelake.lake.maintenance.compact import compact
from prunelake.schema.run_tables import RUN_TABLES, RUNS
from prunelake.settings import Settings
from prunelake.spec import Rows, SweepSpec
from prunelake.watch.decision import EvaluationState
from prunelake.watch.evaluations import Evaluation
from prunelake.watch.launcher import AttemptOutcome
from prunelake.watch.rounds import WatchRound
from prunelake.watch.watchlist import Watchlist, read_watchlist

TASKS = ("everyday_knowledge", "opinions")
SEEDS = 5
REPEATS = 5
RESULT = RESULTS / "orchestration.md"


class RefusingLauncher:
    """Starts nothing: a request to start is an error."""

    largest_group = 1

    def start(self, group: Sequence[tuple[Evaluation, Attempt]]) -> str | None:
        raise AssertionError(f"{group} was started")

    def outcome(self, attempt: Attempt, alive_at: datetime) -> AttemptOutcome | None:  # noqa: ARG002  # a Launcher
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
    return read_watchlist(path)


def write_runs(settings: Settings, watchlist: Watchlist, count: int, in_segments: bool) -> None:
    """Write `count` `runs` files: first those that the watchlist asks for, then others."""
    from prunelake.watch.revisions import ModelRevision, find_revisions

    (entry,) = watchlist.entries
    models = [
        found for found in find_revisions(entry, settings.cache) if isinstance(found, ModelRevision)
    ]
    wanted = [(model, spec) for model in models for spec in entry.sweep_specs(model.model)]
    other = SweepSpec(task="opinions", rows=Rows(first=5))
    rows = []
    for number in range(count):
        model, spec = wanted[number] if number < len(wanted) else (models[0], other)
        rows.append(run_row(number, model.model, model.revision, spec))
    for row in rows:
        frames = {
            name: table.frame([])
            for name, table in RUN_TABLES.items()
            if table is not RUNS and not table.is_optional
        }
        write_run(settings.lake, row, frames)
    if in_segments:
        compact(settings.lake)


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
        "copied": [],
    }


def decide(watchlist: Watchlist, settings: Settings, missing: int) -> float:
    """Median seconds of one dry round; it must find exactly the evaluations that were left out."""
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        lines = WatchRound(watchlist, settings, RefusingLauncher(), is_dry=True).run()
        times.append(time.perf_counter() - began)
        states = [line.state for line in lines]
        found = states.count(EvaluationState.missing) + states.count(EvaluationState.waiting)
        assert found == missing, f"{found} missing instead of {missing}"
    return statistics.median(times)


@contextmanager
def prepared_watchlist(
    runs: int, missing: int, in_segments: bool
) -> Iterator[tuple[Watchlist, Settings]]:
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


def watch(runs: int = 10_000, rounds: int = 1_000) -> Iterator[str]:
    for in_segments in (False, True):
        with prepared_watchlist(runs, 100, in_segments) as (watchlist, settings):
            seconds = decide(watchlist, settings, 100)
        kept = "in segments" if in_segments else "a file each"
        yield f"| decides, {runs:,} runs {kept} | {seconds:.2f} s |"
    with prepared_watchlist(100, 0, False) as (watchlist, settings):
        before = bytes_of(Path(str(settings.lake)), settings.cache)
        began = time.perf_counter()
        for _ in range(rounds):
            assert WatchRound(watchlist, settings, RefusingLauncher()).run() == []
        each = (time.perf_counter() - began) / rounds
        after = bytes_of(Path(str(settings.lake)), settings.cache)
    yield f"| an empty round, 100 runs, 10 models | {each * 1e3:.0f} ms |"
    grown = f"{after[0] - before[0]} files, {after[1] - before[1]} bytes"
    yield f"| what {rounds:,} empty rounds leave in lake and cache | {grown} |"


PARTS: dict[str, Callable[[], Iterator[str]]] = {
    "watch": watch,
    "flow": partial(flow_overhead, rows=12),
    "queued": partial(queued, count=30),
    "workers": partial(workers, rows=8),
    "ray": partial(ray, rows=8),
}


def write(part: str, lines: list[str]) -> None:
    """Write a part of the results, in place of its older version."""
    old = RESULT.read_text("utf-8").split("## ")[1:] if RESULT.exists() else []
    parts = {text.partition("\n")[0]: text for text in old}
    parts[part] = "\n".join([part, "", *lines, ""])
    RESULT.write_text("\n".join(f"## {parts[p].strip()}\n" for p in PARTS if p in parts), "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", default=",".join(PARTS))
    one_thread()
    for part in parser.parse_args().parts.split(","):
        before = os.getloadavg()[0]
        with nullcontext() if part == "watch" else server():
            rows = [*PARTS[part]()]
        said = (
            f"`python benchmarks/orchestration.py --parts {part}`, {datetime.now(UTC):%Y-%m-%d}: "
            f"{os.cpu_count()} cores, prefect {version('prefect')}, torch {version('torch')}, "
            f"polars {pl.__version__}. Load of the machine before {before:.1f}, after "
            f"{os.getloadavg()[0]:.1f} (of this alone: up to 1, with two workers or nodes 2)."
        )
        lines = [said, "", "| | |", "|---|---:|", *rows]
        write(part, lines)
        print("\n".join(lines), flush=True)


if __name__ == "__main__":
    main()
