"""Separate processes write, compact, collect, publish and read a lake at the same time."""

import os
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

from polars.testing import assert_frame_equal

from prunelake.analysis.analyse import analyse
from prunelake.lake import commit, read
from prunelake.lake.files.paths import is_segment
from prunelake.lake.maintenance.compact import compact
from prunelake.lake.maintenance.garbage import collect_garbage
from prunelake.lake.maintenance.verify import verify_lake
from prunelake.schema.analysis_tables import ANALYSIS_TABLES
from prunelake.schema.run_tables import RUN_TABLES
from tests.support.endurance import repeats
from tests.support.runs.lake_rows import small_analysis, small_run

ROUNDS = repeats(4, 60)
"""In a round each role takes one turn; all begin at once."""

ROLES = """
import multiprocessing, sys
from pathlib import Path
from prunelake.lake.sql.bound_query import BoundQuery
from prunelake.api.queries.snapshots.snapshot import LatestSnapshot
from prunelake.analysis.analyse import analyse
from prunelake.lake import commit, read
from prunelake.lake.sql import views
from prunelake.lake.maintenance.compact import compact
from prunelake.lake.maintenance.garbage import collect_garbage
from prunelake.lake.publish import publish
from tests.support.runs.lake_rows import small_analysis, small_run

lake = Path(sys.argv[1])
HALF_SEEN = '''
    select runs.run_id
    from runs
    left join (select run_id, count(*) as n from predictions group by run_id) as p
        on runs.run_id = p.run_id
    left join (select run_id, count(*) as n from layers group by run_id) as l
        on runs.run_id = l.run_id
    where p.n is distinct from 2 or l.n is distinct from 2
    union all
    select run_id from predictions where run_id not in (select run_id from runs)
'''

def write(count):
    run, frames = small_run(f"run {count}")
    commit.write_run(lake, run, frames)
    commit.write_analysis(lake, *small_analysis(str(run["run_id"])))

def query():
    assert views.query(lake, HALF_SEEN).is_empty()
    return views.query(lake, "select count(*) as n from runs")["n"].item()

def serve(snapshots):
    snapshot = snapshots.current()
    assert snapshot.rows(BoundQuery(HALF_SEEN)).is_empty()
    count = snapshot.rows(BoundQuery("select count(*) as n from runs"))["n"].item()
    assert count == snapshot.run_count
    return count

def table():
    ids = read.run_ids(lake)
    assert read.read_table(lake, "predictions", ids).height == 2 * len(ids)
    return len(ids)

def work(role, rounds, start):
    snapshots, seen = LatestSnapshot(lake), 0
    turns = {"compact": lambda: compact(lake), "publish": lambda: publish(lake, analyse)}
    turns |= {"collect": lambda: collect_garbage(lake), "query": query, "table": table}
    turns["serve"] = lambda: serve(snapshots)
    try:
        for count in range(rounds):
            start.wait()
            now = write(count) if role == "write" else turns[role]()
            if role in ("query", "serve", "table"):
                assert now >= seen, f"{role}: {seen} runs were there, now {now}"
                seen = now
    except BaseException:
        start.abort()
        raise

roles = ("write", "compact", "collect", "publish", "query", "serve", "table")
# Forked before DuckDB or polars has a thread, so that they are imported once.
fork = multiprocessing.get_context("fork")
start = fork.Barrier(len(roles))
started = [fork.Process(target=work, args=(role, int(sys.argv[2]), start)) for role in roles]
for process in started:
    process.start()
for process in started:
    process.join()
sys.exit(any(process.exitcode for process in started))
"""


def test_simultaneous_writers_and_readers_lose_nothing(tmp_path: Path) -> None:
    from prunelake.lake.publish import publish

    lake = tmp_path / "lake"
    commit.write_run(lake, *small_run("first"))
    publish(lake, analyse)
    ended = subprocess.run(
        [sys.executable, "-c", ROLES, str(lake), str(ROUNDS)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "POLARS_MAX_THREADS": "1",
        },
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    quiet = tmp_path / "quiet"
    commit.write_run(quiet, *small_run("first"))
    commit.write_analysis(quiet, *small_analysis(read.run_ids(quiet)[0]))
    for count in range(ROUNDS):
        run, frames = small_run(f"run {count}")
        commit.write_run(quiet, run, frames)
        commit.write_analysis(quiet, *small_analysis(str(run["run_id"])))
    compact(lake)
    # A publisher may have analysed a run before its writer did.
    for table in ANALYSIS_TABLES:
        shutil.rmtree(lake / table)
    for run_id in read.run_ids(lake):
        commit.write_analysis(lake, *small_analysis(run_id))
    compact(lake)
    collect_garbage(lake, timedelta(0))
    assert verify_lake(lake) == []
    assert all(
        is_segment(path)
        for name in (*RUN_TABLES, *ANALYSIS_TABLES)
        for path in (lake / name).glob("*")
    )
    for name, rows_of in {**RUN_TABLES, **ANALYSIS_TABLES}.items():
        actual, expected = (read.read_table(at, name).sort(rows_of.key) for at in (lake, quiet))
        assert_frame_equal(actual, expected)
