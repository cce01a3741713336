"""A lake to query in SQL."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from prunelake.lake.read import require_lake, run_ids
from prunelake.lake.sql import views
from prunelake.lake.sql.run_lookup import find_run
from prunelake.lake.storage.location import Location
from prunelake.public.run import Run
from prunelake.settings import load_settings


class Lake:
    """The results of all runs in one place; `open_lake` returns a `Lake`."""

    def __init__(self, location: Location) -> None:
        self.location = location

    def __repr__(self) -> str:
        return f"Lake({self.location}, {len(run_ids(self.location))} runs)"

    def sql(self, query: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> pl.DataFrame:
        """The rows that a query returns, as a polars frame.

            lake.sql("from verdicts where level = ?", [4])
            lake.sql("select * from metrics where task = $task", {"task": "boolq"})
            lake.sql("show all tables")

        The values of `parameters` are bound to `?` in their order, or to `$name`. The query is one
        DuckDB statement that only reads; docs/analyst.md describes the views.

        Raises:
            QueryError: DuckDB refuses the query, or it does more than read.
            CorruptFile: a damaged file.
        """
        if isinstance(parameters, Mapping):
            return views.query_read_only(self.location, query, **parameters)
        return views.query_read_only(self.location, query, parameters)

    def runs(self) -> pl.DataFrame:
        """The complete runs, newest first: `run_id`, `model`, `task`, `strategy`, `levels`, ..."""
        return self.sql(
            """
            select run_id, model, task, strategy, levels, example_count, created_at
            from runs
            order by created_at desc, run_id
            """
        )

    def run(self, run_id: str) -> Run:
        """The run with this id.

            lake.run(lake.runs()["run_id"][0]).verdicts()

        Raises:
            LakeError: the lake has no such run.
        """
        return Run(self.location, find_run(self.location, run_id).run_id)


def open_lake(location: str | Path | Location | None = None) -> Lake:
    """Open a lake for reading.

        lake = pl.open_lake()                       # PRUNELAKE_LAKE, else the folder lake
        lake = pl.open_lake("s3://bucket/prefix")   # an object store

    Raises:
        LakeError: there is no lake.
    """
    lake = Lake(load_settings(location).lake)
    require_lake(lake.location)
    return lake
