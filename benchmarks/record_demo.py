"""Records the lake that `prunelake demo --recorded` opens.

    python -m benchmarks.record_demo             # runs the sweeps of the demo first
    python -m benchmarks.record_demo LAKE        # takes the runs and profiles of this lake
    python -m benchmarks.record_demo --analyse   # analyses again what is recorded

The texts of examples are recorded for the bundled tasks only: the datasets of other tasks must not
be redistributed. Their log-likelihoods, attributions and deletion curves are numbers, and are
recorded.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import polars as pl

from prunelake.analysis.analyse import analyse
from prunelake.cli.demo import run_demo
from prunelake.errors import UnknownTask
from prunelake.lake.commit import write_profile, write_run
from prunelake.lake.read import read_table, run_ids
from prunelake.lake.recorded import RECORDED_LAKE, pack_lake, unpack_lake
from prunelake.schema.profile_tables import PROFILE_TABLES
from prunelake.schema.run_tables import RUN_TABLES
from prunelake.schema.table import TableGroup
from prunelake.settings import Settings
from prunelake.tasks.catalogue import get_task

MAX_BYTES = 5_000_000
NOT_RECORDED = "(not recorded)"


def record(lake: Path, packed: Path = RECORDED_LAKE) -> None:
    """Copy the runs and profiles of a lake without foreign texts, analyse them and pack them."""
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary)
        for run_id in run_ids(lake):
            run, frames = _entry(lake, RUN_TABLES, run_id)
            check_spec(run["spec"])
            if not is_own_task(run["task"]):
                frames["examples"] = without_texts(frames["examples"])
            write_run(copy, run, frames)
            analyse(copy, run_id)
        for profile_id in read_table(lake, "profiles")["profile_id"]:
            write_profile(copy, *_entry(lake, PROFILE_TABLES, profile_id))
        pack_lake(copy, packed)
    size = packed.stat().st_size
    print(f"{packed}: {size:,} bytes, runs {', '.join(run_ids(lake))}")
    if size > MAX_BYTES:
        raise SystemExit(f"more than {MAX_BYTES:,} bytes: record fewer rows")


def is_own_task(task: str) -> bool:
    """Whether the examples of a task were written for PruneLake."""
    try:
        return get_task(task).bundled is not None
    except UnknownTask:
        return False


def without_texts(examples: pl.DataFrame) -> pl.DataFrame:
    """The rows of `examples` with a placeholder for each text; counts of texts stay.

    Equal prompts get equal placeholders: calibrators are fitted by prompt.
    """
    placeholder = pl.lit(NOT_RECORDED)
    return examples.with_columns(
        prompt=pl.format("{} {}", placeholder, pl.col("prompt").rank("dense")),
        options=placeholder.repeat_by(pl.col("options").list.len()),
        prompt_tokens=placeholder.repeat_by(pl.col("prompt_tokens").list.len()),
    )


def check_spec(spec: str) -> None:
    """Exit if a spec names a path of this machine."""
    fields = json.loads(spec)
    paths = [value for value in (fields["model"], fields["task"]) if Path(value).is_absolute()]
    if paths:
        raise SystemExit(f"{', '.join(paths)}: a recorded run may name no path of this machine")


def _entry(
    lake: Path, group: TableGroup, owner: str
) -> tuple[dict[str, Any], dict[str, pl.DataFrame]]:
    """One run or profile: its row in the owner table, and the frames beside it."""
    frames = {
        name: read_table(lake, name).filter(pl.col(table.owner_column) == owner)
        for name, table in group.items()
    }
    (row,) = frames.pop(group.owner_table.name).to_dicts()
    return row, frames


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("lake", nargs="?", type=Path)
    parser.add_argument("--analyse", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        lake = options.lake or Path(temporary)
        if options.analyse:
            lake = unpack_lake(RECORDED_LAKE, lake)
        elif options.lake is None:
            run_demo(Settings().model_copy(update={"lake": lake}))
        record(lake)


if __name__ == "__main__":
    main()
