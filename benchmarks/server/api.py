"""The cost of the API: latency and requests per second, compared with DuckDB alone and datasette.

    python -m benchmarks.server.api --lake LAKE [--datasette PATH] [--seconds 10] [--soak 60]

LAKE is a published lake of `python benchmarks/lake.py`. wrk sends requests over loopback with 1 and
32 clients: cold, with all requests different, and cached, with all requests equal. DuckDB answers
the same SQL in this process, fetched as Arrow and written as JSON. datasette (in an environment of
its own) serves the same rows from SQLite, with pages of the same size. Then the server is under
load while a new snapshot is published every 5 seconds. Writes docs/measurements/api.md.
"""

import argparse
import os
import platform
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import fastapi
import httpx
import numpy as np
import polars as pl
import uvicorn

from benchmarks.paths import RESULTS
from benchmarks.server.load import LoadResult, run_load
from benchmarks.server.serving import served
from benchmarks.server.soak import soak
from prunelake.analysis.analyse import analyse
from prunelake.api.queries.snapshots.snapshot import Snapshot, open_cursor, open_snapshot
from prunelake.api.queries.views.view_catalog import view_named
from prunelake.api.queries.views.view_rows import row_page
from prunelake.lake.files.paths import SNAPSHOT_FILE
from prunelake.lake.publish import publish
from prunelake.lake.sql.bound_query import BoundQuery
from prunelake.schema.row_formats import RowFormat, encode_rows

CLIENTS = (1, 32)
VIEWS = {"correlations": "level_count", "verdicts": "level", "metrics": "level"}
"""The requested views, each with a column whose varying lower bound makes requests different."""
PICTURES = ("confidence.json", "confidence.png")
QUESTIONS = 60_000


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    address: str
    kind: str
    clients: int
    ours: LoadResult
    cpu_ms: float
    duckdb: LoadResult | None
    datasette: LoadResult | None


def questions(view: str, runs: list[str], start: int) -> list[list[tuple[str, str]]]:
    """Filters that all select 100 rows of a run; all filters differ."""
    bound = f"{VIEWS[view]}_gte"
    return [
        [("run_id", runs[number % len(runs)]), (bound, str(-number))]
        for number in range(start, start + QUESTIONS)
    ]


def address(view: str) -> str:
    return f"/views/{view}" if view == "metrics" else f"/{view}"


def targets(view: str, asked: list[list[tuple[str, str]]]) -> list[str]:
    return [
        f"{address(view)}?{'&'.join(f'{name}={value}' for name, value in parameters)}"
        for parameters in asked
    ]


def datasette_targets(view: str, asked: list[list[tuple[str, str]]]) -> list[str]:
    column = VIEWS[view]
    fixed = "_shape=objects&_size=100&_nocount=1&_nofacet=1&_nosuggest=1&_sort=run_id"
    return [
        f"/rows/{view}.json?{fixed}&run_id={run}&{column}__gte={bound}"
        for (_, run), (_, bound) in asked
    ]


def chart_targets(name: str, runs: list[str], metrics: list[str]) -> list[str]:
    return [
        f"/charts/{name}?run_id={run}&metric={metric}&level={level}"
        for level in range(1, 17)
        for metric in metrics
        for run in runs
    ]


def by_duckdb(
    snapshot: Snapshot, view: str, asked: list[list[tuple[str, str]]], clients: int, seconds: float
) -> LoadResult:
    """The same SQL in this process, `clients` threads at once."""
    queries = [row_page(view_named(view), one, snapshot.id, 100_000).query for one in asked[:2000]]
    until = time.perf_counter() + seconds

    def client(number: int) -> list[float]:
        times: list[float] = []
        with open_cursor(snapshot.connection) as cursor:
            while (began := time.perf_counter()) < until:
                query = queries[(number * 97 + len(times)) % len(queries)]
                found = cursor.sql(query.sql, params=dict(query.parameters)).to_arrow_table()
                encode_rows(pl.DataFrame(found).head(100), RowFormat.json)
                times.append((time.perf_counter() - began) * 1e3)
        return times

    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        times = [t for found in pool.map(client, range(clients)) for t in found]
    p50, p95 = (float(value) for value in np.percentile(times, [50, 95]))
    return LoadResult(len(times), time.perf_counter() - began, p50, p95, 0, 0, frozenset())


def make_sqlite(snapshot: Snapshot, path: Path) -> None:
    """The rows of the views as tables of SQLite, indexed by run."""
    with sqlite3.connect(path) as database:
        for view in VIEWS:
            rows = snapshot.rows(BoundQuery(f"from {view}"))
            columns = ", ".join(f'"{name}"' for name in rows.columns)
            marks = ", ".join("?" * rows.width)
            database.execute(f"create table {view} ({columns})")
            database.executemany(f"insert into {view} values ({marks})", rows.iter_rows())
            database.execute(f"create index {view}_run on {view} (run_id)")
    database.close()


@contextmanager
def datasette(executable: Path, database: Path, port: int) -> Iterator[str]:
    """Serve an SQLite file by datasette."""
    command = [str(executable), "serve", "--immutable", str(database), "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(5)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def measure(options: argparse.Namespace, folder: Path) -> Iterator[Row]:
    """Measure every address, cold and cached, with every number of clients, one after the other."""
    lake: Path = options.lake
    snapshot = open_snapshot(publish(lake, analyse))
    runs = snapshot.rows(BoundQuery("select run_id from runs order by run_id"))["run_id"].to_list()
    metrics = ["ece", "nll", "brier", "flip_rate"]
    make_sqlite(snapshot, folder / "rows.db")
    started = 0
    with served(lake, folder / "log") as server:

        def ours(asked: list[str], clients: int) -> tuple[LoadResult, float]:
            before = server.cpu_seconds
            found = run_load(server.address, asked, clients, options.seconds, folder)
            return found, (server.cpu_seconds - before) / max(found.requests, 1) * 1e3

        def kept(target: str, clients: int) -> tuple[LoadResult, float]:
            # One request fills the cache, after all requests that clients have left.
            httpx.get(f"{server.url}{target}", timeout=600).raise_for_status()
            return ours([target], clients)

        def theirs(asked: list[str], clients: int) -> LoadResult | None:
            if options.datasette is None:
                return None
            with datasette(options.datasette, folder / "rows.db", options.port) as host:
                return run_load(host, asked, clients, options.seconds, folder)

        for view in VIEWS:
            for clients in CLIENTS:
                started += QUESTIONS
                asked = questions(view, runs, started)
                yield Row(
                    address(view),
                    "cold",
                    clients,
                    *ours(targets(view, asked), clients),
                    by_duckdb(snapshot, view, asked, clients, options.seconds),
                    theirs(datasette_targets(view, asked), clients),
                )
            for clients in CLIENTS:
                yield Row(
                    address(view),
                    "cached",
                    clients,
                    *kept(targets(view, asked[:1])[0], clients),
                    None,
                    theirs(datasette_targets(view, asked[:1]), clients),
                )
        for name in PICTURES:
            asked_charts = chart_targets(name, runs, metrics)
            for number, clients in enumerate(CLIENTS):
                share = asked_charts[number :: len(CLIENTS)]
                yield Row(f"/charts/{name}", "cold", clients, *ours(share, clients), None, None)
            for clients in CLIENTS:
                yield Row(
                    f"/charts/{name}", "cached", clients, *kept(share[0], clients), None, None
                )


def table(rows: list[Row]) -> Iterator[str]:
    yield (
        "| address | | clients | p50 | p95 | a second | CPU of a request | DuckDB p50 | p95 | "
        "a second | datasette p50 | p95 | a second | ours / datasette | errors |"
    )
    yield "|---|---|" + "---:|" * 13
    for row in rows:
        ratio = f"{row.ours.rate / row.datasette.rate:.1f}" if row.datasette else ""
        cells = [row.address, row.kind, str(row.clients), *numbers(row.ours), f"{row.cpu_ms:.2f}"]
        cells += [*numbers(row.duckdb), *numbers(row.datasette), ratio, str(row.ours.errors)]
        yield f"| {' | '.join(cells)} |"


def numbers(load: LoadResult | None) -> list[str]:
    return [f"{load.p50:.2f}", f"{load.p95:.2f}", f"{load.rate:,.0f}"] if load else [""] * 3


def versions(options: argparse.Namespace) -> str:
    told = f"DuckDB {duckdb.__version__}, uvicorn {uvicorn.__version__}, "
    told += f"FastAPI {fastapi.__version__}"
    if options.datasette is not None:
        asked = [options.datasette, "--version"]
        told += ", " + subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    return told.strip().replace(", version", "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lake", type=Path, required=True)
    parser.add_argument("--datasette", type=Path)
    parser.add_argument("--port", type=int, default=8029, help="where datasette listens")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--soak", type=float, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        before = os.getloadavg()[0]
        rows = []
        for row in measure(options, folder):
            rows.append(row)
            print(list(table([row]))[-1], flush=True)
        told = [line for real in (False, True) for line in soak(folder, options.soak, real)]
    lines = [
        f"`python -m benchmarks.server.api`, {datetime.now(UTC):%Y-%m-%d}: {platform.machine()}, "
        f"{os.cpu_count()} cores, load average {before:.1f} at the start; {versions(options)}; "
        f"{(options.lake / SNAPSHOT_FILE).stat().st_size / 1e6:,.0f} MB of snapshot. Milliseconds; "
        f"{options.seconds:g} s each; the server, wrk and what is compared share the cores.",
        "",
        *table(rows),
        "",
        *told,
    ]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "api.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
