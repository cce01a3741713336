"""CPU seconds of the views that compare explanations and predictions, whole and filtered.

    python -m benchmarks.lake_views NEW.duckdb [FORMER.duckdb] [--copies 9]

Each file is a published snapshot; the former one may come from another version of the views. The
queries alternate between the two, so that other work on the machine slows both alike. With
`--copies`, they read a temporary file that also has copies of all runs and predictions, without
explanations, under other ids and models. Prints a table for docs/measurements/lake_views.md.
"""

import argparse
import os
import platform
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Timer

import duckdb

from prunelake.lake.sql.bound_query import sql_literal

VIEWS = ("predictions", "example_metrics", "level_overlaps", "attribution_pairs")
REPEATS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("snapshots", type=Path, nargs="+", help="NEW.duckdb [FORMER.duckdb]")
    parser.add_argument(
        "--seconds", type=float, default=60, help="limit of one query, by the clock"
    )
    parser.add_argument("--copies", type=int, default=0, help="copies of all runs to add")
    options = parser.parse_args()
    with TemporaryDirectory(dir=options.snapshots[0].parent) as folder:
        paths = options.snapshots
        if options.copies:
            paths = [with_copies(path, Path(folder), options.copies) for path in paths]
        measure(paths, options.seconds)


def with_copies(path: Path, folder: Path, copies: int) -> Path:
    """A snapshot with copies of its runs and predictions, as a file in a folder."""
    larger = Path(shutil.copy(path, folder / f"{len(list(folder.iterdir()))}.duckdb"))
    with duckdb.connect(larger) as connection:
        connection.execute("create temp table originals as from lake.runs")
        for number in range(copies):
            run_id = f"md5(run_id || '{number}')[:16]"
            connection.execute(
                f"insert into lake.runs select * replace ({run_id} as run_id, "
                f"model || '-{number}' as model) from originals"
            )
            connection.execute(
                f"insert into lake.predictions select * replace ({run_id} as run_id) from "
                "lake.predictions semi join originals using (run_id) order by run_id, level"
            )
    return larger


def measure(paths: list[Path], limit: float) -> None:
    """Print the CPU seconds of each view and filter."""
    connections = [duckdb.connect(path, read_only=True) for path in paths]
    for connection in connections:
        connection.execute("set threads = 2")
    ((runs, run_id, model, task),) = (
        connections[0]
        .sql(
            "select (select count(*) from runs), run_id, model, task from runs "
            "order by run_id in (select run_id from lake.attributions) desc, run_id limit 1"
        )
        .fetchall()
    )
    of_model = "select run_id from runs where model = $model order by run_id"
    ids = [found for (found,) in connections[0].execute(of_model, {"model": model}).fetchall()]
    rows = connections[0].sql("select count(*) from lake.predictions").fetchall()[0][0]
    print(
        f"{datetime.now(UTC):%Y-%m-%d}: {platform.machine()}, {os.cpu_count()} cores, DuckDB "
        f"{duckdb.__version__}, {runs:,} runs, {rows:,} predictions. CPU seconds of the faster of "
        f"{REPEATS} queries.\n"
    )
    print("| view | rows of | new | former | ratio |\n| -- | -- | -: | -: | -: |")
    filters = {
        "all runs": "true",
        "a run": f"run_id = '{run_id}'",
        "a model": f"model = {sql_literal(model)}",
        "a task": f"task = {sql_literal(task)}",
        "a list of ids": f"run_id in ({', '.join(map(sql_literal, ids))})",
        "a subquery": f"run_id in (select run_id from runs where model = {sql_literal(model)})",
    }
    for view in VIEWS:
        for name, condition in filters.items():
            query = f"select max(columns(*)) from {view} where {condition}"
            found = [float("inf")] * len(connections)
            for _ in range(REPEATS):
                for index, connection in enumerate(connections):
                    found[index] = min(found[index], seconds(connection, query, limit))
            cells = [f"{s:.2f} s" if s < float("inf") else "no answer" for s in found]
            is_known = len(found) > 1 and max(found) < float("inf")
            ratio = f"{found[1] / found[0]:.1f} x" if is_known else ""
            print(f"| {view} | {name} | {' | '.join([*cells, ratio])} |", flush=True)


def seconds(connection: duckdb.DuckDBPyConnection, query: str, limit: float) -> float:
    """CPU seconds of all threads.

    Infinite if the query takes longer than `limit` by the clock, or if the view of an older
    snapshot lacks a column.
    """
    timer = Timer(limit, connection.interrupt)
    timer.start()
    began = time.process_time()
    try:
        connection.sql(query).to_arrow_table()
    except (duckdb.InterruptException, duckdb.BinderException):
        return float("inf")
    finally:
        timer.cancel()
    return time.process_time() - began


if __name__ == "__main__":
    main()
