"""The growth of a lake: publish time, size and time of every view, at 1, 10 and 100 x the paper.

    python -m benchmarks.lake --folder FOLDER [--scales 1,10,100] [--no-views]

The paper's size: 5 models, 8 tasks, 17 levels, 2 methods and a random ranking, 3 seeds: 0.9 M
predictions, 0.8 M attributions of 100 tokens. The numbers are drawn, the analysis is real. Larger
lakes hold 10 and 100 times as many runs and predictions, without explanations, in full segments.
Writes docs/measurements/lake.md, or lake_publish.md with --no-views.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from threading import Timer
from typing import Any

import duckdb
import numpy as np
import polars as pl

from benchmarks.paths import RESULTS
from prunelake.analysis.analyse import analyse
from prunelake.api.queries.snapshots.snapshot import open_snapshot
from prunelake.identity import content_hash
from prunelake.lake import commit, read
from prunelake.lake.files.entries import (
    commit_manifest,
    retire_owner,
    segment_name,
    write_files,
)
from prunelake.lake.files.manifests import Manifest, Owner
from prunelake.lake.files.paths import SNAPSHOT_FILE, ManifestName
from prunelake.lake.files.verified import VERIFIED_FILE
from prunelake.lake.publish import is_current, publish
from prunelake.lake.sql.views import connect
from prunelake.schema.analysis_tables import ANALYSIS_TABLES, ANALYSIS_VERSION
from prunelake.schema.run_tables import RUN_TABLES
from prunelake.schema.table import FORMAT_VERSION

MODELS, TASKS, LEVELS, EXAMPLES, EXPLAINED, TOKENS = 5, 8, 17, 1324, 131, 100
SEGMENT_RUNS = 44  # a million predictions
METHODS, SEEDS, OPTIONS = ("kernel_shap", "lime", "random"), (0, 1, 2), 4
FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5)
TARGETS = ("metrics", "deltas", "correlations", "verdicts")
TIMEOUT_S = 20.0

SCAN = """
    select level, count(*), avg(confidence), avg(is_correct::integer),
        max(option_log_likelihoods[1])
    from {predictions} group by level order by level
"""


def run_row(model: int, task: int) -> dict[str, Any]:
    identity = {"benchmark": "lake", "model": model, "task": task, "format": FORMAT_VERSION}
    return {
        "run_id": content_hash(identity)[:16],
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
        "model": f"model-{model:03}",
        "revision": "0" * 40,
        "architecture": "llama",
        "strategy": "cosine",
        "task": f"task-{task}",
        "split": "test",
        "example_count": EXAMPLES,
        "levels": list(range(LEVELS)),
        "layer_count": 2 * (LEVELS - 1),
        "removal_order": list(range(LEVELS - 1)),
        "dtype": "float32",
        "device": "drawn",
        "code_version": "0",
        "spec": json.dumps({"model": f"model-{model:03}", "task": f"task-{task}"}),
        "identity": json.dumps(identity),
        "duration_s": 1.0,
        "forward_tokens": 1,
        "copied": [],
    }


def random_run(
    run: dict[str, Any], seed: int, count: int = EXAMPLES, explained: int = EXPLAINED
) -> dict[str, pl.DataFrame]:
    """Frames of one run whose accuracy, calibration and explanations decay with the level."""
    rng = np.random.default_rng(seed)
    examples = pl.Series("example_id", [f"test:{i}" for i in range(count)])
    gold = rng.integers(OPTIONS, size=count)
    logits = 2 * rng.normal(size=(count, OPTIONS))
    logits[np.arange(count), gold] += 1.5
    scores = rng.normal(size=(explained, TOKENS))
    predictions, attributions, deletions = [], [], []
    for level in range(LEVELS):
        noisy = logits * (1 + 0.03 * level) + 0.1 * level * rng.normal(size=logits.shape)
        chosen = noisy.argmax(axis=1)
        shares = np.exp(noisy - noisy.max(axis=1, keepdims=True))
        confidence = shares.max(axis=1) / shares.sum(axis=1)
        predictions.append(
            pl.DataFrame(
                {
                    "level": np.full(count, level),
                    "example_id": examples,
                    "option_log_likelihoods": noisy,
                    "option_bytes": np.full(noisy.shape, 4),
                    "gold": gold,
                    "prediction": chosen,
                    "prediction_norm": chosen,
                    "is_correct": chosen == gold,
                    "is_correct_norm": chosen == gold,
                    "confidence": confidence,
                }
            )
        )
        for method in METHODS:
            for seed_of_method in SEEDS:
                own = scores + (0.5 + 0.05 * level) * rng.normal(size=scores.shape)
                key = {
                    "level": np.full(explained, level),
                    "example_id": examples[:explained],
                    "method": [method] * explained,
                    "seed": np.full(explained, seed_of_method),
                }
                attributions.append(
                    pl.DataFrame(key | {"target": chosen[:explained], "scores": own})
                )
                for kind in ("comprehensiveness", "sufficiency"):
                    for fraction in FRACTIONS:
                        drop = 0.3 * fraction - 0.004 * level * (method != "random")
                        full = confidence[:explained]
                        deletions.append(
                            pl.DataFrame(
                                key
                                | {
                                    "operator": ["delete_text"] * explained,
                                    "kind": [kind] * explained,
                                    "fraction": np.full(explained, fraction),
                                    "top_count": np.full(explained, int(fraction * TOKENS)),
                                    "probability_full": full,
                                    "probability_perturbed": full
                                    - drop
                                    - 0.1 * rng.normal(size=explained),
                                }
                            )
                        )
    rows = {
        "layers": pl.DataFrame(),
        "examples": pl.DataFrame(
            {
                "example_id": examples,
                "position": np.arange(count),
                "prompt": ["a question"] * count,
                "options": [["a", "b", "c", "d"]] * count,
                "gold": gold,
                "prompt_tokens": [["token"] * (TOKENS if explained else 0)] * count,
            }
        ),
        "predictions": pl.concat(predictions),
        "attributions": pl.concat(attributions),
        "deletions": pl.concat(deletions),
    }
    return {name: with_schema(name, frame, run["run_id"]) for name, frame in rows.items()}


def with_schema(name: str, frame: pl.DataFrame, run_id: str) -> pl.DataFrame:
    """The frame with the columns of a table, of this run."""
    table = ANALYSIS_TABLES.get(name) or RUN_TABLES[name]
    if frame.is_empty():
        return table.frame([])
    own = frame.with_columns(run_id=pl.lit(run_id)).select(list(table.schema))
    return own.cast(pl.Schema(table.schema))


def make_base(folder: Path) -> float:
    """Make the lake of the paper's size; return the median seconds of the analysis of a run."""
    seconds = []
    for number in range(MODELS * TASKS):
        run = run_row(*divmod(number, TASKS))
        if not read.has_run(folder, run["run_id"]):
            commit.write_run(folder, run, random_run(run, number))
        elif number >= 8:  # in an existing lake, only a few runs are timed again
            continue
        began = time.perf_counter()
        analyse(folder, run["run_id"])
        seconds.append(time.perf_counter() - began)
        say(f"run {number + 1} of {MODELS * TASKS}: {seconds[-1]:.1f} s")
    return statistics.median(seconds)


def make_segments(base: Path, folder: Path, run_count: int) -> None:
    """Runs without explanations, in full segments, as `compact` leaves them."""
    os.fsync = lambda fd: None  # noqa: ARG005  # mypy wants the name; a benchmark may lose power
    sources = []
    for task in range(4):
        run = run_row(0, task)
        if not read.has_run(base, run["run_id"]):
            commit.write_run(base, run, random_run(run, task, explained=0))
            analyse(base, run["run_id"])
        tables = {**RUN_TABLES, **ANALYSIS_TABLES}
        sources.append({name: read.read_table(base, name, [run["run_id"]]) for name in tables})
    for first in range(0, run_count, SEGMENT_RUNS):
        numbers = range(first, min(first + SEGMENT_RUNS, run_count))
        runs = [run_row(*divmod(number, TASKS)) for number in numbers]
        for group, version in ((RUN_TABLES, None), (ANALYSIS_TABLES, ANALYSIS_VERSION)):
            frames: dict[str, list[pl.DataFrame]] = {name: [] for name in group}
            owners = {}
            for number, run in zip(numbers, runs, strict=True):
                # All runs differ; otherwise Parquet's dictionaries would make equal runs small.
                factor = 1 - 1e-9 * number
                rows = sources[number % len(sources)] | {"runs": RUN_TABLES["runs"].frame([run])}
                rows["predictions"] = rows["predictions"].with_columns(
                    pl.col("option_log_likelihoods").list.eval(pl.element() * factor),
                    pl.col("confidence") * factor,
                )
                rows = {name: with_schema(name, rows[name], run["run_id"]) for name in group}
                for name, frame in rows.items():
                    frames[name].append(frame)
                owners[run["run_id"]] = Owner(
                    commit=content_hash(run["run_id"])[:16],
                    generation=1,
                    rows={name: frame.height for name, frame in rows.items()},
                )
            segment = ManifestName(segment_name(owners, version), 1)
            merged = ((t, pl.concat(frames[t.name]).sort("run_id")) for t in group.values())
            files = write_files(folder, segment, merged)
            content = Manifest(analysis_version=version, owners=owners, files=files)
            commit_manifest(folder, group, segment, content)
        say(f"{numbers.stop} runs")


def measure(folder: Path, with_views: bool) -> dict[str, Any]:
    """Times of publishing and connecting, and the median time of every view, in seconds."""
    (folder / "prunelake.duckdb").unlink(missing_ok=True)
    found: dict[str, Any] = {}
    (folder / VERIFIED_FILE).unlink(missing_ok=True)
    found["connect, and compare all files with their hashes"] = seconds_of(
        lambda: connect(folder).close()
    )
    found["connect again"] = seconds_of(lambda: connect(folder).close())
    found["publish"] = seconds_of(lambda: publish(folder, analyse))
    path = folder / SNAPSHOT_FILE
    found["bytes"] = path.stat().st_size
    retired = retire_one_run(folder)
    publish(folder, analyse)
    commit.write_run(folder, *retired)
    analyse(folder, retired[0]["run_id"])
    found["publish after one more run"] = seconds_of(lambda: publish(folder, analyse))
    found["the API finds the snapshot current"] = seconds_of(lambda: is_current(folder))
    found["the API opens it"] = seconds_of(lambda: open_snapshot(path, 500_000_000))
    found["files"] = sum(1 for _ in folder.glob("*/*.parquet"))
    found["parquet bytes"] = sum(file.stat().st_size for file in folder.glob("*/*.parquet"))
    with duckdb.connect(path, read_only=True) as snapshot:
        views = snapshot.sql("select view_name from duckdb_views() where not internal").fetchall()
        found["prediction rows"] = snapshot.sql("select count(*) from lake.predictions").fetchall()[
            0
        ][0]
        found["complete runs"] = snapshot.sql("select count(*) from lake.runs").fetchall()[0][0]
        for (view,) in sorted(views) if with_views else ():
            # Compute every column of every row, and return a single row.
            found[view] = timed(snapshot, f"select max(columns(*)) from {view}")
            say(f"{view}: {found[view]}")
        for view in TARGETS if with_views else ():
            found[f"{view}, fetched"] = timed(snapshot, f"from {view}")
        found["scan of the snapshot"] = timed(snapshot, SCAN.format(predictions="predictions"))
    with duckdb.connect() as plain:
        files = f"read_parquet('{folder}/predictions/*.parquet')"
        found["scan of the Parquet by hand"] = timed(plain, SCAN.format(predictions=files))
    return found


def retire_one_run(folder: Path) -> tuple[dict[str, Any], dict[str, pl.DataFrame]]:
    """Hide one run of a lake; return what `write_run` takes to write it again."""
    (run_id, *_) = read.run_ids(folder)
    frames = {name: read.read_table(folder, name, [run_id]) for name in RUN_TABLES}
    for manifest in read.complete_runs(folder, [run_id]):
        if run_id in manifest.run_ids:
            retire_owner(folder, RUN_TABLES, manifest, run_id)
    (run,) = frames.pop("runs").to_dicts()
    return run, frames


def seconds_of(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def timed(connection: duckdb.DuckDBPyConnection, query: str, repeats: int = 5) -> float:
    """Median seconds; infinite if a query takes longer than TIMEOUT_S."""
    times: list[float] = []
    while len(times) < repeats and sum(times) < TIMEOUT_S:
        timer = Timer(TIMEOUT_S, connection.interrupt)
        timer.start()
        began = time.perf_counter()
        try:
            connection.sql(query).to_arrow_table()
        except duckdb.InterruptException:
            return float("inf")
        finally:
            timer.cancel()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def table(results: dict[int, dict[str, Any]]) -> Iterator[str]:
    yield "| | " + " | ".join(f"{scale} x" for scale in results) + " |"
    yield "|---|" + "---:|" * len(results)
    for name in next(iter(results.values())):
        cells = []
        for found in results.values():
            value = found.get(name)
            if value is None:
                cells.append("")
            elif name in ("complete runs", "prediction rows", "files"):
                cells.append(f"{value:,}")
            elif name.endswith("bytes"):
                cells.append(f"{value / 1e6:,.0f} MB")
            elif value == float("inf"):
                cells.append(f"over {TIMEOUT_S:.0f} s")
            else:
                cells.append(f"{value * 1e3:,.0f} ms" if value < 1 else f"{value:,.1f} s")
        yield f"| {name} | {' | '.join(cells)} |"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--scales", default="1,10,100")
    parser.add_argument("--no-views", action="store_true", help="publish and connect only")
    options = parser.parse_args()
    results: dict[int, dict[str, Any]] = {}
    analysis_s = 0.0
    for scale in map(int, options.scales.split(",")):
        folder = options.folder / str(scale)
        if scale > 1:
            make_segments(options.folder / "source", folder, scale * MODELS * TASKS)
        else:
            analysis_s = make_base(folder)
        results[scale] = measure(folder, not options.no_views)
        if scale > 1:
            shutil.rmtree(folder)
    lines = [
        f"`python -m benchmarks.lake --folder FOLDER`, {datetime.now(UTC):%Y-%m-%d}: "
        f"{platform.machine()}, {os.cpu_count()} cores, "
        f"DuckDB {duckdb.__version__}, polars {pl.__version__}. Median of up to 5 runs.",
        *([f"Analysis of a run of the first: {analysis_s:.1f} s (median)."] if analysis_s else []),
        "",
        *table(results),
    ]
    RESULTS.mkdir(exist_ok=True)
    name = "lake_publish.md" if options.no_views else "lake.md"
    (RESULTS / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
