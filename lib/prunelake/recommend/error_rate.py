"""The error rate of each test if the best of several removal orders is chosen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import polars as pl
from scipy.special import ndtri, stdtrit

from prunelake.analysis.looks import RunLooks, looks_of_run
from prunelake.analysis.sequential import SMALLEST_LEVEL, nominal_level
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


@dataclass(frozen=True)
class LastLooks:
    """The last look of sequential runs: their looks, and the bounds of losses at the last one.

    The intervals of `deltas` are narrowed by earlier looks. The bounds of the last look alone hold
    over all looks, too, and are exact in the standard error of the last look.
    """

    runs: Mapping[str, RunLooks]
    bounds: Mapping[tuple[str, int, str], float]

    @classmethod
    def read(cls, connection: Connection, runs: pl.DataFrame) -> Self:
        """The last looks of the sequential runs among these rows of `runs`."""
        columns = runs.select("run_id", "identity", "example_count").unique("run_id")
        found = {row[0]: looks_of_run(*row) for row in columns.iter_rows()}
        found = {run_id: looks for run_id, looks in found.items() if looks.design is not None}
        rows = BoundQuery(
            """
            select
                looks.run_id,
                looks.level,
                looks.metric,
                if(
                    definitions.higher_is_better, 0 - looks.equivalence_low, looks.equivalence_high
                ) as loss_bound
            from looks
            inner join headline_keys as keys
                on
                    looks.run_id = keys.run_id
                    and looks.metric = keys.metric
                    and looks.method is not distinct from keys.method
                    and looks.operator is not distinct from keys.operator
                    and looks.variant is not distinct from keys.variant
            inner join metric_definitions as definitions on looks.metric = definitions.metric
            where list_contains($run_ids, looks.run_id)
            qualify looks.look = max(looks.look) over (partition by looks.run_id)
            """,
            run_ids=[*found],
        ).records(connection)
        bounds = {(row["run_id"], row["level"], row["metric"]): row["loss_bound"] for row in rows}
        return cls(found, {key: bound for key, bound in bounds.items() if bound is not None})

    def nominal_rates(self, row: Mapping[str, Any], *rates: float) -> list[float]:
        """The levels of one-sided tests at the last look for these error rates over all looks."""
        looks = self.runs.get(row["run_id"])
        if looks is None:
            return [*rates]
        times = looks.times(row["level"], is_explained=row["method"] is not None).times
        levels = [nominal_level(times, rate) if times else 0.0 for rate in rates]
        return [max(SMALLEST_LEVEL, level) for level in levels]


FIXED_ROWS = LastLooks({}, {})
"""No run is sequential."""


def at_error_rate(
    checks: pl.DataFrame,
    discordant: DiscordantCounts,
    error_rate: float,
    last_looks: LastLooks = FIXED_ROWS,
) -> pl.DataFrame:
    """Rows of `criteria` with one-sided tests at `error_rate`; the view tests at 5 %.

    The stricter test raises `loss_bound`, and changes `is_met`, `n_needed`, `is_level_met` and
    `is_reached` accordingly. The bound of accuracy is null if its discordant examples are unknown.
    """
    bounds = [
        _loss_bound(row, discordant, error_rate, last_looks) for row in checks.iter_rows(named=True)
    ]
    level, loss, margin = ["run_id", "calibrator", "level"], pl.col("loss"), pl.col("margin")
    reach = pl.col("loss_bound") - loss + POWER_QUANTILE * pl.col("delta_se").fill_null(0.0)
    # Where no example differs, the bound falls with n instead of its root.
    power = pl.when(pl.col("delta_se").is_null() & (loss == 0)).then(1).otherwise(2)
    needed = (pl.col("n") * (reach / (margin - loss)) ** power).ceil()
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
    row: Mapping[str, Any],
    discordant: DiscordantCounts,
    error_rate: float,
    last_looks: LastLooks,
) -> float | None:
    """The upper end of the one-sided interval of a loss; of a sequential run, at its last look."""
    bound, error, n = row["loss_bound"], row["delta_se"], row["n"]
    if bound is None:
        return None
    before, rate = last_looks.nominal_rates(row, ERROR_RATE, error_rate)
    if row["criterion"] == "accuracy":
        counts = discordant.get((row["run_id"], row["level"]))
        return None if counts is None else -tango_interval(*counts, n, 1 - 2 * rate)[0]
    if row["calibrator"] is None:  # recalibration is tested at the last look only
        bound = last_looks.bounds.get((row["run_id"], row["level"], row["metric"]), bound)
    if error is None:  # no example differs: the view deltas bounds the share that could
        shares = 1 - np.array([ERROR_RATE, error_rate]) ** (1 / n)
        return float(bound * shares[1] / shares[0])
    # The bound is a centre, extended for bias, plus a quantile times the standard error.
    quantiles = -stdtrit(n - 1, np.array([before, rate]))
    return float(bound + (quantiles[1] - quantiles[0]) * error)
