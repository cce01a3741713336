"""The pairs of attributions that an analysis stores, so that no reader ranks them again."""

import polars as pl

from prunelake.lake.sql.bound_query import Connection
from prunelake.lake.sql.views import select
from prunelake.schema.analysis_tables import ANALYSIS_TABLES


def load_rank_pairs(connection: Connection) -> pl.DataFrame:
    """The rows of `compared_ranks` of the only run that the connection shows, as `rank_pairs`."""
    table = ANALYSIS_TABLES["rank_pairs"]
    lists = [name for name in table.schema if name not in table.key]
    rows = select(connection, f"select {', '.join(table.schema)} from compared_ranks")
    # Equal rows give equal files, in whatever order DuckDB returns them.
    ordered = rows.sort(*table.key, "seed", "other_level", "other_seed")
    grouped = ordered.group_by(table.key, maintain_order=True).agg(lists)
    return grouped.select(list(table.schema)).cast(pl.Schema(table.schema))
