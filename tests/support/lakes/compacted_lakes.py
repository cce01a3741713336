"""Lakes to compact, and everything that a compaction must not change."""

from pathlib import Path
from typing import Any

import polars as pl
from polars.testing import assert_frame_equal

from prunelake.lake.commit import write_analysis, write_run
from prunelake.lake.files.entries import retire_owner
from prunelake.lake.files.findings import FindingKind
from prunelake.lake.files.manifests import listed_files
from prunelake.lake.maintenance.compact import compact
from prunelake.lake.maintenance.verify import verify_lake
from prunelake.lake.read import read_content, read_table
from prunelake.lake.sql import views
from prunelake.schema.analysis_tables import ANALYSIS_TABLES, ANALYSIS_VERSION
from prunelake.schema.run_tables import RUN_TABLES
from prunelake.schema.tables import ALL_TABLES
from tests.support.lakes.lake_files import stored_manifest
from tests.support.lakes.local_paths import local_path
from tests.support.runs.example_runs import explained_run
from tests.support.runs.lake_rows import bound, named_level, small_analysis, small_run

COMPACTED_TABLES = (*RUN_TABLES, *ANALYSIS_TABLES)

TABLES_WITH_ROWS = [name for name in COMPACTED_TABLES if name not in ("reported", "texts")]
"""The tables of which these lakes have files."""

DROPS = {(method, op): 0.5 for op in ("replace", "delete_text") for method in ("random", "lime")}


def add_run(lake: Path, name: str, analysed: bool = True, **analysis: Any) -> str:
    """Write a small run; its run_id.

    If its name begins with `bounded`, it has a row in each optional table of measurements.
    """
    run, frames = small_run(name)
    run_id = str(run["run_id"])
    if name.startswith("bounded"):
        frames["bounds"] = RUN_TABLES["bounds"].frame([bound(run_id, 0, "test:0")])
        frames["levels"] = RUN_TABLES["levels"].frame([named_level(run_id, 0, "base")])
    assert write_run(lake, run, frames)
    if analysed:
        write_analysis(lake, *small_analysis(run_id, **analysis))
    return run_id


def varied_lake(lake: Path) -> Path:
    """A lake of runs with and without explanations, bounds, and analyses of this version."""
    explained_run(lake, "explained", DROPS)
    explained_run(lake, "another", DROPS, model="other", task="another")
    add_run(lake, "plain")
    add_run(lake, "bounded")
    add_run(lake, "later", analysed=False)
    add_run(lake, "older", analysis_version=ANALYSIS_VERSION - 1)
    return lake


def half_compacted(lake: Path) -> Path:
    """A lake with a segment, a run after it, and a second analysis of a run in the segment."""
    add_run(lake, "bounded")
    run_id = add_run(lake, "again")
    compact(lake)
    analyse_again(lake, run_id, replicates=99)
    add_run(lake, "bounded later")
    return lake


def analyse_again(lake: Path, run_id: str, **analysis: Any) -> None:
    """Retire the analysis of a run, as if it were damaged, and write another one."""
    stored = stored_manifest(lake, run_id, "analyses")
    retire_owner(lake, ANALYSIS_TABLES, stored, run_id)
    assert write_analysis(lake, *small_analysis(run_id, **analysis))


def table_rows(lake: Path) -> dict[str, pl.DataFrame]:
    """The rows of every table; all views depend on these only."""
    return {name: read_table(lake, name).sort(ALL_TABLES[name].key) for name in COMPACTED_TABLES}


def view_rows(lake: Path) -> dict[str, pl.DataFrame]:
    """The rows of every view and of every relation below the views."""
    with views.connect(lake) as connection:
        relations = [f"lake.{name}" for name in COMPACTED_TABLES]
        names = [*views.describe_views(connection)["view"], *relations]
        return {name: views.select(connection, f"from {name} order by all") for name in names}


def assert_same_rows(actual: dict[str, pl.DataFrame], expected: dict[str, pl.DataFrame]) -> None:
    assert actual.keys() == expected.keys()
    for name, frame in actual.items():
        # A sum over several runs is added in any order: the last bit of a view may differ.
        is_exact = name in COMPACTED_TABLES or name.startswith("lake.")
        assert_frame_equal(
            frame, expected[name], check_exact=is_exact, rel_tol=1e-12, abs_tol=1e-12
        )


def table_files(lake: Path) -> list[Path]:
    """The files of the tables, without the marks of retired manifests, which stay."""
    return sorted(
        path
        for name in COMPACTED_TABLES
        for path in (lake / name).glob("*")
        if path.suffix != ".retired"
    )


def open_files(lake: Path) -> list[Path]:
    """The files that readers open, with the manifests."""
    content = read_content(lake)
    data = {path for m in content.manifests for _, path, _ in listed_files(m)}
    return sorted(map(local_path, data | {manifest.path for manifest in content.manifests}))


def problems_beside_missing_analyses(lake: Path) -> list[str]:
    return [f.problem for f in verify_lake(lake) if f.kind is not FindingKind.unanalysed]
