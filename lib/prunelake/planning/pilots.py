"""Pilots: how much each criterion varies at each level, from runs of the lake or assumed."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from scipy.special import stdtrit

from prunelake.analysis.power import PairedSpread
from prunelake.analysis.statistics import EQUIVALENCE_CONFIDENCE_LEVEL
from prunelake.lake.sql.bound_query import BoundQuery, Connection

PilotRow = Mapping[str, Any]
SpreadSource = Literal["pilot", "nearest level", "assumed"]

ASSUMED_SPREADS: Mapping[str, PairedSpread] = {
    "accuracy": PairedSpread(0.4, is_proportion=True),  # 16 % of the examples are discordant
    "ece": PairedSpread(0.4, 0.25),
    "smooth_ece": PairedSpread(0.42, 0.1),
    "brier": PairedSpread(0.45),
    "nll": PairedSpread(1.3),
    "comprehensiveness": PairedSpread(0.25),
    "sufficiency": PairedSpread(0.3),
}
"""The spreads without a pilot: close to SmolLM2-135M on arc_easy (docs/plan.md)."""


def pilot_rows(
    connection: Connection, run_ids: Sequence[str], base_run_id: str, metrics: Sequence[str]
) -> dict[tuple[int, str], PilotRow]:
    """The pilot of each level and metric: its row of `deltas` with the most examples.

    `run_ids` are runs of one removal order. Explanations count if they have the method, operator
    and variant that represent the run `base_run_id`. A row also has `p_adjusted`, over the tests of
    these runs. The key is the level and the metric.
    """
    rows = BoundQuery(
        """
        select
            deltas.*,
            verdicts.p_adjusted
        from deltas
        inner join headline_keys as keys
            on
                keys.run_id = $base_run_id
                and deltas.metric = keys.metric
                and deltas.method is not distinct from keys.method
                and deltas.operator is not distinct from keys.operator
                and deltas.variant is not distinct from keys.variant
        inner join runs on deltas.run_id = runs.run_id
        left join verdicts_at(run_ids := $run_ids) as verdicts
            on
                deltas.run_id = verdicts.run_id
                and deltas.level = verdicts.level
                and deltas.metric = verdicts.metric
                and deltas.method is not distinct from verdicts.method
                and deltas.operator is not distinct from verdicts.operator
                and deltas.variant is not distinct from verdicts.variant
        where
            list_contains($run_ids, deltas.run_id)
            and list_contains($metrics, deltas.metric)
            and deltas.level > 0
            and deltas.n > 0
        qualify row_number() over (
            partition by deltas.level, deltas.metric
            order by deltas.n desc, runs.created_at desc, deltas.run_id
        ) = 1
        """,
        run_ids=list(run_ids),
        base_run_id=base_run_id,
        metrics=list(metrics),
    ).records(connection)
    return {(row["level"], row["metric"]): row for row in rows}


def measured_spread(row: PilotRow) -> PairedSpread | None:
    """The spread of a pilot; None if its differences do not vary.

    Even an accuracy without any difference gets a spread: one discordant and one concordant example
    are added, because a few equal examples do not prove that all are equal.
    """
    n, delta, error = row["n"], row["delta"], row["delta_se"]
    if row["metric"] == "accuracy" and delta is not None:
        share = (error or 0.0) ** 2 * (n - 1) + delta**2
        share = (share * n + 1) / (n + 2)
        # A share is as uncertain as a variance with these degrees of freedom.
        degrees = 2 * (n + 2) * share / (1 - share)
        return PairedSpread(math.sqrt(share), degrees=degrees, is_proportion=True)
    if error is None:
        return None
    if row["look_count"] is not None:  # its interval is wider because of repeated looks
        excess = ASSUMED_SPREADS[row["metric"]].excess
        return PairedSpread(error * math.sqrt(n), excess, degrees=n - 1)
    half_width = max(row["equivalence_high"] - delta, delta - row["equivalence_low"])
    quantile = float(stdtrit(n - 1, (1 + EQUIVALENCE_CONFIDENCE_LEVEL) / 2))
    excess = max(0.0, half_width - quantile * error)
    if excess < 1e-9 * half_width:
        excess = 0.0
    return PairedSpread(error * math.sqrt(n), excess * math.sqrt(n), degrees=n - 1)


def measured_spreads(
    rows: Mapping[tuple[int, str], PilotRow],
) -> dict[tuple[int, str], PairedSpread]:
    """The spreads of pilots, by level and metric."""
    spreads = {key: measured_spread(row) for key, row in rows.items()}
    return {key: spread for key, spread in spreads.items() if spread is not None}


def spread_at(
    measured: Mapping[tuple[int, str], PairedSpread], level: int, metric: str
) -> tuple[PairedSpread, SpreadSource]:
    """The spread of a metric at a level or the nearest measured level, or the assumed spread."""
    if (level, metric) in measured:
        return measured[level, metric], "pilot"
    levels = [known for known, name in measured if name == metric]
    if not levels:
        return ASSUMED_SPREADS[metric], "assumed"
    nearest = min(levels, key=lambda known: (abs(known - level), -known))
    return measured[nearest, metric], "nearest level"
