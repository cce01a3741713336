"""The examples that each criterion needs at each level, from the runs of the lake."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from prunelake.analysis.power import PairedSpread, examples_for_changes_between
from prunelake.analysis.statistics import SIGNIFICANCE_LEVEL
from prunelake.lake.sql.bound_query import Connection
from prunelake.planning.needs import CriterionNeed
from prunelake.planning.pilots import (
    PilotRow,
    SpreadSource,
    measured_spreads,
    pilot_rows,
    spread_at,
)
from prunelake.planning.request import PlanRequest
from prunelake.recommend.request import EXPLANATION_CRITERIA, Criterion


def criterion_needs(
    connection: Connection,
    request: PlanRequest,
    pilots: Sequence[Mapping[str, Any]],
    base: Mapping[str, Any] | None,
    levels: Sequence[int],
) -> list[CriterionNeed]:
    """The examples that each criterion needs at each level.

    The spreads come from `pilots`, the changes so far from the run `base`, which the planned sweep
    extends.
    """
    margins = request.margins
    criteria: tuple[tuple[Criterion, str, float], ...] = (
        (Criterion.accuracy, "accuracy", margins.accuracy),
        (Criterion.calibration, request.calibration.value, margins.calibration),
        *((name, name.value, margins.faithfulness) for name in EXPLANATION_CRITERIA),
    )
    known: Mapping[tuple[int, str], PilotRow] = {}
    if base is not None:
        run_ids = [run["run_id"] for run in pilots]
        metrics = [metric for _, metric, _ in criteria]
        known = pilot_rows(connection, run_ids, base["run_id"], metrics)
    spreads = measured_spreads(known)
    return [
        _need(
            *(level, criterion, metric, margin, known.get((level, metric))),
            *spread_at(spreads, level, metric),
            request.power,
        )
        for level in levels
        for criterion, metric, margin in criteria
    ]


def _need(
    level: int,
    criterion: Criterion,
    metric: str,
    margin: float,
    pilot: PilotRow | None,
    spread: PairedSpread,
    source: SpreadSource,
    power: float,
) -> CriterionNeed:
    low, high = -math.inf, math.inf
    n, is_decided = 0, False
    if pilot:
        n = pilot["n"]
        if pilot["delta_low"] is not None:
            low, high = pilot["delta_low"], pilot["delta_high"]
        is_changed = pilot["p_adjusted"] is not None and pilot["p_adjusted"] <= SIGNIFICANCE_LEVEL
        is_within = (
            pilot["equivalence_low"] is not None
            and pilot["equivalence_low"] > -margin
            and pilot["equivalence_high"] < margin
        )
        is_decided = is_changed or is_within
    needed = n
    if not is_decided:
        needed = examples_for_changes_between(low, high, spread, margin, power)
    return CriterionNeed(
        level=level,
        criterion=criterion,
        metric=metric,
        margin=margin,
        is_explained=criterion in EXPLANATION_CRITERIA,
        change=pilot["delta"] if pilot else None,
        spread=spread.sd,
        spread_source=source,
        run_id=pilot["run_id"] if pilot else None,
        n=n,
        is_decided=is_decided,
        # If the present examples should have been enough, a few more would rarely decide.
        n_needed=n if is_decided else max(needed, math.ceil(1.5 * n)),
    )
