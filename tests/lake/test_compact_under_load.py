"""A lake that is written, compacted, published and read at once, each by processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

from polars.testing import assert_frame_equal

from prunelake.analysis.analyse import analyse
from prunelake.lake import commit, read
from prunelake.lake.compact import compact
from prunelake.lake.paths import is_segment
from prunelake.lake.verify import verify_lake
from prunelake.schema.analysis_tables import ANALYSIS_TABLES
from prunelake.schema.run_tables import RUN_TABLES
from tests.support.lake_rows import small_analysis, small_run

SECONDS = 8.0

ROLES = """
import sys, time
from pathlib import Path
from prunelake.lake.bound_query import BoundQuery
from api.queries.snapshot import LatestSnapshot
from prunelake.analysis.analyse import analyse
from prunelake.lake import commit, read, views
from prunelake.lake.compact import compact
from prunelake.lake.publish import publish
from tests.support.lake_rows import small_analysis, small_run

lake, role = Path(sys.argv[1]), sys.argv[2]
until = time.time() + float(sys.argv[3])  # from now on: the imports took a while
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

def serve(snapshots=LatestSnapshot(lake)):
    snapshot = snapshots.current()
    assert snapshot.rows(BoundQuery(HALF_SEEN)).is_empty()
    count = snapshot.rows(BoundQuery("select count(*) as n from runs"))["n"].item()
    assert count == snapshot.run_count
    return count

def table():
    ids = read.run_ids(lake)
    assert read.read_table(lake, "predictions", ids).height == 2 * len(ids)
    return len(ids)

turns = seen = 0
while time.time() < until:
    if role == "write":
        write(turns)
    elif role in ("compact", "publish"):
        compact(lake) if role == "compact" else publish(lake, analyse)
    else:
        now = {"query": query, "serve": serve, "table": table}[role]()
        assert now >= seen, f"{seen} runs were there, now {now}"
        seen = now
    turns += 1
print(turns)
"""


def test_nothing_is_lost_or_half_seen_while_all_are_at_work(tmp_path: Path) -> None:
    from prunelake.lake.publish import publish

    lake = tmp_path / "lake"
    commit.write_run(lake, *small_run("first"))
    publish(lake, analyse)
    roles = ("write", "compact", "publish", "query", "serve", "table")
    started = {
        role: subprocess.Popen(
            [sys.executable, "-c", ROLES, str(lake), role, str(SECONDS)],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(sys.path),
                "POLARS_MAX_THREADS": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for role in roles
    }
    turns = {}
    for role, process in started.items():
        out, error = process.communicate(timeout=120)
        assert process.returncode == 0, f"{role}: {error[-2000:]}"
        turns[role] = int(out)
    assert min(turns.values()) >= 1, turns
    quiet = tmp_path / "quiet"
    commit.write_run(quiet, *small_run("first"))
    commit.write_analysis(quiet, *small_analysis(read.run_ids(quiet)[0]))
    for count in range(turns["write"]):
        run, frames = small_run(f"run {count}")
        commit.write_run(quiet, run, frames)
        commit.write_analysis(quiet, *small_analysis(str(run["run_id"])))
    compact(lake)
    commit.write_analysis(lake, *small_analysis(str(small_run("first")[0]["run_id"])))
    for run_id in read.run_ids(lake):
        # A publisher may have analysed a run before its writer did.
        commit.write_analysis(lake, *small_analysis(run_id))
    compact(lake)
    assert verify_lake(lake) == []
    assert all(is_segment(path) for path in (lake / "runs").iterdir())
    for name, table in {**RUN_TABLES, **ANALYSIS_TABLES}.items():
        actual, expected = (read.read_table(at, name).sort(table.key) for at in (lake, quiet))
        if name == "analyses":
            actual, expected = actual.drop("files"), expected.drop("files")
        assert_frame_equal(actual, expected)
