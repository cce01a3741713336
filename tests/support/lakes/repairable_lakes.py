"""A lake whose runs lie in a segment and in files of their own, and the names of its files."""

from datetime import timedelta
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from prunelake.lake import commit
from prunelake.lake.maintenance.compact import compact
from prunelake.lake.maintenance.garbage import collect_garbage
from prunelake.lake.maintenance.verify import verify_lake
from prunelake.schema.analysis_tables import ANALYSIS_TABLES
from prunelake.schema.run_tables import RUN_TABLES
from prunelake.spec import SweepSpec
from tests.support.runs.lake_rows import bound, small_analysis, small_run

ALL = (*RUN_TABLES, *ANALYSIS_TABLES)
NO_GRACE = timedelta(0)


def add_run(lake: Path, name: str, analysed: bool = True, **columns: Any) -> str:
    run, written = small_run(name)
    run_id = str(run["run_id"])
    written["bounds"] = RUN_TABLES["bounds"].frame([bound(run_id, 0, "test:0")])
    commit.write_run(lake, run | columns, written)
    if analysed:
        commit.write_analysis(lake, *small_analysis(run_id))
    return run_id


@cache
def whole() -> Path:
    """Two runs in a segment, and two runs with their own files; copy this folder."""
    folder = Path(mkdtemp())
    for name in ("one", "two"):
        add_run(folder, name)
    compact(folder)
    collect_garbage(folder, NO_GRACE)
    for name in ("three", "four"):
        add_run(folder, name)
    assert verify_lake(folder) == []
    return folder


def files_of(lake: Path) -> dict[str, bytes]:
    """The files of the tables, by their names in the lake."""
    paths = (path for name in ALL for path in (lake / name).glob("*"))
    return {str(path.relative_to(lake)): path.read_bytes() for path in sorted(paths)}


SPEC = SweepSpec(task="opinions", levels=(0, 2)).model_dump_json()
