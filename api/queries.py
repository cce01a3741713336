"""One function a chart or table: SQL over the lake's views, rows out; no HTTP, no drawing.

A run may hold several explanations. Shown is its headline (view `headlines`), the variant eraser.
"""

from collections.abc import Sequence
from typing import Any

import duckdb
import polars as pl

from prunelake.errors import QueryError

Connection = duckdb.DuckDBPyConnection

# Restricts d (deltas or correlations) to rows of the headline, or of no explanation at all.
IS_HEADLINE = """
    d.run_id = $run_id
    and (d.method is null or d.method = (select method from headlines where run_id = $run_id))
    and (d.operator is null or d.operator = (select operator from headlines where run_id = $run_id))
    and (d.variant is null or d.variant = 'eraser')
"""


def runs(connection: Connection, run_ids: Sequence[str] | None = None) -> pl.DataFrame:
    """The rows of `runs`, or those of `run_ids`; runs of one model and order stand together."""
    return _rows(
        connection,
        """
        select *
        from runs
        where $run_ids is null or list_contains($run_ids, run_id)
        order by model, revision, strategy, removal_order, task, created_at, run_id
        """,
        run_ids=None if run_ids is None else list(run_ids),
    )


def headline(connection: Connection, run_id: str) -> pl.DataFrame:
    """The `method` and `operator` of a run that are shown; no row where nothing is explained."""
    return _rows(
        connection, "select method, operator from headlines where run_id = $run_id", run_id=run_id
    )


def levels(connection: Connection, run_id: str) -> pl.DataFrame:
    """level x metric: value, n, unpruned_value, delta, is_worse and the random_value to beat."""
    return _rows(
        connection,
        f"""
        select
            d.level,
            d.metric,
            d.value,
            d.n,
            d.unpruned_value,
            d.delta,
            d.is_worse,
            random.value as random_value
        from deltas as d
        left join metrics as random
            on
                random.run_id = d.run_id
                and random.level = d.level
                and random.metric = d.metric
                and random.method = 'random'
                and random.operator = d.operator
                and random.variant = d.variant
        where {IS_HEADLINE}
        order by d.metric, d.level
        """,
        run_id=run_id,
    )


def summary(connection: Connection, run_id: str) -> pl.DataFrame:
    """The run's rows of the view `summary`, level 0 first."""
    return _rows(
        connection, "select * from summary where run_id = $run_id order by level", run_id=run_id
    )


def layers(connection: Connection, run_id: str) -> pl.DataFrame:
    """layer, importance, rank (0 is removed first), from the input on."""
    return _rows(
        connection,
        "select layer, importance, rank from layers where run_id = $run_id order by layer",
        run_id=run_id,
    )


def correlations(connection: Connection, run_id: str) -> pl.DataFrame:
    """metric x scope: pearson, spearman, kendall with accuracy, level_count and a note on nulls.

    The strongest Spearman correlations come first.
    """
    return _rows(
        connection,
        f"""
        select
            d.metric,
            d.scope,
            d.pearson,
            d.spearman,
            d.kendall,
            d.level_count,
            d.note
        from correlations as d
        where {IS_HEADLINE}
        order by d.scope, abs(d.spearman) desc nulls last, d.metric
        """,
        run_id=run_id,
    )


def reliability(connection: Connection, run_id: str, level: int) -> pl.DataFrame:
    """The bins of confidence of the unpruned model and of a level."""
    return _rows(
        connection,
        """
        select
            level,
            bin_low,
            bin_high,
            n,
            mean_confidence,
            accuracy
        from reliability
        where run_id = $run_id and level in (0, $level)
        order by level, bin_low
        """,
        run_id=run_id,
        level=level,
    )


def guessing(connection: Connection, run_id: str) -> pl.DataFrame:
    """One row: `uniform`, the accuracy of drawing an option; `majority`, of the commonest gold."""
    return _rows(
        connection,
        """
        with unpruned as (
            select
                gold,
                len(option_log_likelihoods) as option_count,
                count(*) over (partition by gold) as equal_gold
            from predictions
            where run_id = $run_id and level = 0
        )
        select
            avg(1 / option_count) as uniform,
            max(equal_gold) / count(*) as majority
        from unpruned
        """,
        run_id=run_id,
    )


def _rows(connection: Connection, query: str, **parameters: Any) -> pl.DataFrame:
    try:
        return pl.DataFrame(connection.sql(query, params=parameters).to_arrow_table())
    except duckdb.Error as error:
        first_line = str(error).partition("\n")[0]
        raise QueryError(f"{first_line}; `prunelake doctor` checks the files") from error
