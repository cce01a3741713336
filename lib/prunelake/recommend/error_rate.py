"""The error rate of each test if the best of several removal orders is chosen."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from scipy.special import ndtri, stdtrit

from prunelake.analysis.statistics import tango_interval
from prunelake.lake.sql.bound_query import BoundQuery, Connection

ERROR_RATE = 0.05
"""The largest probability of recommending a level that is worse by the margin."""

POWER_QUANTILE = float(ndtri(0.8))
"""The normal quantile of a power of 80 %, as for `n_needed` in the view `criteria`."""

DiscordantCounts = Mapping[tuple[str, int], tuple[int, int]]
"""By run and level: how many examples are right only at level 0, and only at the level."""


def discordant_counts(connection: Connection, run_ids: Sequence[str]) -> DiscordantCounts:
    """The discordant examples of these runs at each level above 0, where they are known."""
    rows = BoundQuery(
        """
        select
            run_id,
            level,
            round(max(value * n) filter (where metric = 'harmful_flip_rate'))::bigint as lost,
            round(max(value * n) filter (where metric = 'beneficial_flip_rate'))::bigint as won
        from deltas
        where
            level > 0
            and metric in ('harmful_flip_rate', 'beneficial_flip_rate')
            and list_contains($run_ids, run_id)
        group by run_id, level
        """,
        run_ids=list(run_ids),
    ).records(connection)
    return {
        (row["run_id"], row["level"]): (row["lost"], row["won"])
        for row in rows
        if row["lost"] is not None and row["won"] is not None
    }


def at_error_rate(
    checks: pl.DataFrame, discordant: DiscordantCounts, error_rate: float
) -> pl.DataFrame:
    """Rows of `criteria` with one-sided tests at `error_rate`; the view tests at 5 %.

    The stricter test raises `loss_bound`, and changes `is_met`, `n_needed`, `is_level_met` and
    `is_reached` accordingly. The bound of accuracy is null if its discordant examples are unknown.
    """
    bounds = [_loss_bound(row, discordant, error_rate) for row in checks.iter_rows(named=True)]
    level, loss, margin = ["run_id", "calibrator", "level"], pl.col("loss"), pl.col("margin")
    reach = pl.col("loss_bound") - loss + POWER_QUANTILE * pl.col("delta_se").fill_null(0.0)
    needed = (pl.col("n") * (reach / (margin - loss)) ** 2).ceil()
    return (
        checks.with_columns(pl.Series("loss_bound", bounds, dtype=pl.Float64))
        .with_columns(is_met=(pl.col("loss_bound") < margin).fill_null(value=False))
        .with_columns(
            n_needed=pl.when(~pl.col("is_met") & (loss < margin))
            .then(needed)
            .cast(pl.Int64, strict=False),
            is_level_met=pl.col("is_met").all().over(level),
        )
        .with_columns(
            is_reached=pl.col("is_level_met")
            & (pl.col("is_level_met") | ~pl.col("is_level_tested"))
            .cum_min()
            .over("run_id", "calibrator", order_by="level")
        )
    )


def _loss_bound(
    row: Mapping[str, Any], discordant: DiscordantCounts, error_rate: float
) -> float | None:
    """The upper end of the one-sided interval of a loss."""
    bound, error, n = row["loss_bound"], row["delta_se"], row["n"]
    if bound is None:
        return None
    if row["criterion"] == "accuracy":
        counts = discordant.get((row["run_id"], row["level"]))
        return None if counts is None else -tango_interval(*counts, n, 1 - 2 * error_rate)[0]
    if error is None:  # no example differs: the view deltas bounds the share that could
        shares = 1 - np.array([ERROR_RATE, error_rate]) ** (1 / n)
        return float(bound * shares[1] / shares[0])
    # The bound is a centre, extended for bias, plus a quantile times the standard error.
    quantiles = stdtrit(n - 1, np.array([1 - ERROR_RATE, 1 - error_rate]))
    return float(bound + (quantiles[1] - quantiles[0]) * error)
