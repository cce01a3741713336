"""Pages of one run from rows in memory: DuckDB takes 2 ms to plan any query, these need 0.2 ms."""

from dataclasses import dataclass

import polars as pl

from prunelake.lake.snapshot_file import EXPLANATION_VIEWS, MATERIALISED_VIEWS
from prunelake.lake.sql.bound_query import BoundQuery

from ..snapshots.snapshot import Snapshot
from .view_catalog import FILTER_SUFFIXES
from .view_rows import RowPage


@dataclass(frozen=True)
class StoredPage:
    """A page of one run; `run_query` asks for all rows of the run, in the order of the key."""

    page: RowPage
    run_query: BoundQuery

    def is_in_memory(self, snapshot: Snapshot) -> bool:
        """Whether `rows` reads nothing."""
        return snapshot.keeps(self.run_query)

    def rows(self, snapshot: Snapshot) -> pl.DataFrame:
        """The rows of `page.query`; the first page of a run reads all rows of the run.

        Raises:
            LimitExceeded, QueryError: as `Snapshot.rows`.
        """
        rows = snapshot.kept_rows(self.run_query)
        conditions = [f.expression(rows) for f in self.page.filters]
        rows = rows.filter(conditions)
        if self.page.order:
            # Equal rows keep the order of the key.
            names, descending = zip(*self.page.order, strict=True)
            rows = rows.sort(names, descending=descending, nulls_last=True, maintain_order=True)
        return rows.slice(self.page.offset, self.page.limit + 1)


def stored_page(page: RowPage) -> StoredPage | None:
    """The page, if it shows one run of a view whose rows a snapshot stores."""
    runs = [f.values for f in page.filters if (f.column, f.suffix) == ("run_id", "")]
    if page.view.name not in MATERIALISED_VIEWS or page.view.name in EXPLANATION_VIEWS:
        return None
    if [len(values) for values in runs] != [1]:
        return None
    if any(f.is_of_run for f in page.filters):
        return None
    if any(page.view.columns[name] not in FILTER_SUFFIXES for name, _ in page.order):
        return None  # a list
    key = ", ".join(f'"{name}"' for name in page.view.key)
    query = f"from {page.view.name} where run_id = $run_id order by {key}"
    return StoredPage(page, BoundQuery(query, run_id=runs[0][0]))
