"""CPU seconds of the views that compare explanations and predictions, whole and filtered.

    python -m benchmarks.lake_views NEW.duckdb [FORMER.duckdb]

Each file is a published snapshot; the former one may come from another version of the views. The
queries alternate between the two, so that other work on the machine slows both alike. Prints a
table for docs/measurements/lake_views.md.
"""

import argparse
import os
import platform
import time
from datetime import UTC, datetime
from pathlib import Path
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
    options = parser.parse_args()
    connections = [duckdb.connect(path, read_only=True) for path in options.snapshots]
    for connection in connections:
        connection.execute("set threads = 2")
    ((runs, run_id, model, task),) = (
        connections[0]
        .sql(
            "select count(*), min(run_id), arg_min(model, run_id), arg_min(task, run_id) from runs"
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
        "a model": f"run_id in (select run_id from runs where model = '{model}')",
        "the ids of a model": f"run_id in ({', '.join(map(sql_literal, ids))})",
        "a task": f"run_id in (select run_id from runs where task = '{task}')",
    }
    for view in VIEWS:
        for name, condition in filters.items():
            query = f"select max(columns(*)) from {view} where {condition}"
            found = [float("inf")] * len(connections)
            for _ in range(REPEATS):
                for index, connection in enumerate(connections):
                    found[index] = min(found[index], seconds(connection, query, options.seconds))
            cells = [f"{s:.2f} s" if s < float("inf") else "over the limit" for s in found]
            is_known = len(found) > 1 and max(found) < float("inf")
            ratio = f"{found[1] / found[0]:.1f} x" if is_known else ""
            print(f"| {view} | {name} | {' | '.join([*cells, ratio])} |", flush=True)


def seconds(connection: duckdb.DuckDBPyConnection, query: str, limit: float) -> float:
    """CPU seconds of all threads; infinite if the query takes longer than `limit` by the clock."""
    timer = Timer(limit, connection.interrupt)
    timer.start()
    began = time.process_time()
    try:
        connection.sql(query).to_arrow_table()
    except duckdb.InterruptException:
        return float("inf")
    finally:
        timer.cancel()
    return time.process_time() - began


if __name__ == "__main__":
    main()
