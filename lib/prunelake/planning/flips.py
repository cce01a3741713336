"""The flips of candidates: their expected rate, and the examples that place it at its margin."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import Field

from prunelake.analysis.flip_forecast import FlipForecast, FlipModel
from prunelake.analysis.power import examples_for_share
from prunelake.analysis.statistics import CONFIDENCE_LEVEL, SIGNIFICANCE_LEVEL, exact_interval
from prunelake.comparison_spec import COMPARISON_STRATEGY
from prunelake.lake.sql.bound_query import BoundQuery, Connection
from prunelake.planning.pilots import PilotRow, pilot_rows
from prunelake.schema.metrics import METRIC_DEFINITIONS
from prunelake.spec import FrozenValue

FLIP_RATE = "flip_rate"


class FlipNeed(FrozenValue):
    """The expected flip rate of a level or a candidate, and the examples that decide about it."""

    level: int
    label: str = Field(description="The name of the candidate, or the number of removed layers.")
    run_id: str = Field(description="The pilot.")
    margin: float
    n: int = Field(description="The examples of the pilot.")
    pilot_rate: float = Field(description="The share of the pilot's predictions that changed.")
    rows: int = Field(
        description="The examples that the expected rate is about: the pilot and all other rows "
        "that the lake has of the baseline."
    )
    rate: float = Field(
        description="The expected flip rate: forecast from the baseline's margins, or the pilot's "
        "own rate if the lake has no other row of the baseline."
    )
    low: float = Field(description="The lower end of its 95 % interval.")
    high: float
    is_forecast: bool
    is_decided: bool = Field(
        description="Whether the pilot shows that the rate lies below or above the margin."
    )
    n_needed: int | None = Field(
        description="The examples that show it with the planned power if `rate` is the truth; n if "
        "it is decided; null if the rate is at the margin."
    )


def flip_needs(
    connection: Connection,
    runs: Sequence[Mapping[str, Any]],
    pilots: Sequence[Mapping[str, Any]],
    levels: Sequence[int],
    power: float,
) -> list[FlipNeed]:
    """The needs of these levels in `pilots`, and of every candidate in the comparisons of `runs`.

    `runs` are the runs of one model on one task, latest first. If a candidate is in several
    comparisons, the comparison with the most examples counts.
    """
    needs = []
    if pilots:
        for (level, _), row in sorted(_pilot_rows(connection, pilots).items()):
            if level in levels:
                needs.append(_need(connection, runs, row, power))
    candidates: dict[str, PilotRow] = {}
    for run in runs:
        if run["strategy"] == COMPARISON_STRATEGY:
            for row in _pilot_rows(connection, [run]).values():
                known = candidates.get(row["label"])
                if known is None or known["n"] < row["n"]:
                    candidates[row["label"]] = row
    return [*needs, *(_need(connection, runs, row, power) for row in candidates.values())]


def _pilot_rows(
    connection: Connection, runs: Sequence[Mapping[str, Any]]
) -> Mapping[tuple[int, str], PilotRow]:
    run_ids = [run["run_id"] for run in runs]
    return pilot_rows(connection, run_ids, run_ids[0], [FLIP_RATE])


def _need(
    connection: Connection,
    runs: Sequence[Mapping[str, Any]],
    row: PilotRow,
    power: float,
) -> FlipNeed:
    margin = METRIC_DEFINITIONS[FLIP_RATE].margin
    n, observed = row["n"], row["delta"]
    expected, rows = _expected(connection, runs, row)
    upper, p_value = row["equivalence_high"], row["p_adjusted"]  # null at a look without a test
    is_decided = (upper is not None and upper < margin) or (
        p_value is not None and p_value <= SIGNIFICANCE_LEVEL
    )
    needed = n if is_decided else examples_for_share(expected.rate, margin, power)
    if not is_decided and needed is not None:
        # If the present examples should have been enough, a few more would rarely decide.
        needed = max(needed, math.ceil(1.5 * n))
    return FlipNeed(
        level=row["level"],
        label=row["label"],
        run_id=row["run_id"],
        margin=margin,
        n=n,
        pilot_rate=observed,
        rows=rows,
        rate=expected.rate,
        low=expected.low,
        high=expected.high,
        is_forecast=rows > n,
        is_decided=is_decided,
        n_needed=needed,
    )


def _expected(
    connection: Connection,
    runs: Sequence[Mapping[str, Any]],
    row: PilotRow,
) -> tuple[FlipForecast, int]:
    """The expected flip rate, and the number of examples that it is about.

    A forecast needs rows of the baseline that the pilot lacks: rows of other runs of this model in
    the same number format on the same split.
    """
    (run,) = [one for one in runs if one["run_id"] == row["run_id"]]
    same = ("dtype", "split", "revision")
    alike = [other for other in runs if all(other[name] == run[name] for name in same)]
    examples = BoundQuery(
        """
        with baselines as (
            select
                run_id,
                coalesce(removed_layers, []) as removed_layers,
                run_id = $run_id as is_own
            from levels
            where list_contains($run_ids, run_id) and level = 0
        ),

        alike as (
            select run_id
            from baselines
            where removed_layers = (select own.removed_layers from baselines as own where is_own)
        ),

        baseline as (
            select
                example_id,
                arg_max(
                    case
                        when len(log_probabilities) > 1
                            then
                                list_reverse_sort(log_probabilities)[1]
                                - list_reverse_sort(log_probabilities)[2]
                        -- Results from elsewhere may have nothing but a confidence.
                        when log_probabilities is null
                            then greatest(0, ln(confidence / (1 - least(confidence, 1 - 1e-7))))
                    end,
                    run_id = $run_id
                ) as margin
            from predictions
            where run_id in (from alike) and level = 0 and is_scorable
            group by example_id
        )

        select
            baseline.margin,
            pilot.is_flip
        from baseline
        left join paired_predictions as pilot
            on
                baseline.example_id = pilot.example_id
                and pilot.run_id = $run_id
                and pilot.level = $level
        where baseline.margin is not null
        order by baseline.example_id
        """,
        run_id=run["run_id"],
        run_ids=[other["run_id"] for other in alike],
        level=row["level"],
    ).rows(connection)
    is_pilot = examples["is_flip"].is_not_null().to_numpy()
    if is_pilot.sum() < row["n"] or is_pilot.all():
        flips = round(row["delta"] * row["n"])
        interval = exact_interval(flips, row["n"], CONFIDENCE_LEVEL)
        return FlipForecast(row["delta"], *interval), row["n"]
    model = FlipModel(examples["margin"].to_numpy())
    is_flip = examples["is_flip"].to_numpy()[is_pilot].astype(np.bool_)
    return model.forecast(is_pilot, is_flip), len(examples)
