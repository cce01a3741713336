"""Plan verdicts: the rows and explained rows that each criterion needs, and their cost."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from prunelake.analysis.power import PairedSpread, examples_for_changes_between
from prunelake.analysis.statistics import SIGNIFICANCE_LEVEL
from prunelake.command_line import grown_rows, sweep_command
from prunelake.errors import InvalidRequest, NotFound, NothingToShow
from prunelake.lake.read import is_sweep
from prunelake.lake.sql.bound_query import BoundQuery, Connection
from prunelake.models.gpu.device_names import FLOAT32_SLOWDOWN, gpu_count
from prunelake.planning.cost import (
    NestedLevels,
    SweepPrice,
    counted_tokens,
    measured_price,
    nested_levels,
)
from prunelake.planning.flips import FlipNeed, flip_needs
from prunelake.planning.needs import CriterionNeed, VerdictPlan
from prunelake.planning.pilots import (
    PilotRow,
    SpreadSource,
    measured_spreads,
    pilot_rows,
    spread_at,
)
from prunelake.planning.request import PlanRequest
from prunelake.recommend.evidence import latest_runs
from prunelake.recommend.request import (
    EXPLANATION_CRITERIA,
    Criterion,
)
from prunelake.spec import Dtype, Explanation, Rows, SweepSpec, task_name


def plan_verdicts(connection: Connection, request: PlanRequest) -> VerdictPlan:
    """Plan the rows and explained rows that decide every criterion at every level.

        with connect(lake) as connection:
            plan_verdicts(connection, PlanRequest(model="SmolLM2-135M", task="arc_easy"))

    Each verdict is planned as a single test at 5 % (`analysis.power`). The spread comes from the
    runs of the lake with the same model, task and strategy; without such runs it is assumed.

    Raises:
        InvalidRequest: the power is not between 0 and 1.
        NotFound: `model` is the last part of several references.
        NothingToShow: no levels are given, and the lake has neither a run to take them from nor a
            comparison of candidates.
    """
    if not 0 < request.power < 1:
        raise InvalidRequest(f"power {request.power:g} is not between 0 and 1; 0.8 is usual")
    runs = _runs_of_model(connection, request.model)
    task = task_name(request.task)
    of_order = [run for run in runs if run["strategy"] == request.strategy.label]
    pilots = [run for run in of_order if run["task"] == task]
    base = _base_run(connection, pilots)
    if base is not None:  # runs in other number formats or orders answer other questions
        same = ("dtype", "removal_order")
        pilots = [run for run in pilots if all(run[name] == base[name] for name in same)]
    levels = request.levels or sorted({level for run in pilots for level in run["levels"]})
    pruned = [level for level in levels if level > 0]
    of_task = [run for run in runs if run["task"] == task]
    flips = flip_needs(connection, of_task, pilots, pruned, request.power)
    if not pruned and not flips:
        raise NothingToShow(
            f"the lake has no pruned level of {request.model} on {task} with strategy "
            f"{request.strategy.label} to plan for; give levels"
        )
    if not pruned:
        return _plan_without_sweep(request, runs[0]["model"], task, flips)
    needs = _needs(connection, request, pilots, base, pruned)
    return _priced(connection, request, needs, flips, runs, of_order, base, pruned)


def _runs_of_model(connection: Connection, model: str) -> list[dict[str, Any]]:
    """The rows of `runs` of the model's latest revision, latest first; empty without runs."""
    try:
        return latest_runs(connection, model).to_dicts()
    except NothingToShow:
        return []
    except NotFound:
        ambiguous = BoundQuery("from runs where model_name = $model", model=model)
        if ambiguous.records(connection):
            raise
        return []


def _base_run(
    connection: Connection, pilots: Sequence[Mapping[str, Any]]
) -> Mapping[str, Any] | None:
    """The sweep that the planned sweep extends: it has the most explained rows, then rows."""
    explained = BoundQuery(
        """
        select run_id, max(n) as n from metrics where metric = 'comprehensiveness' group by run_id
        """
    ).records(connection)
    counts = {row["run_id"]: row["n"] or 0 for row in explained}
    sweeps = [run for run in pilots if is_sweep(run["identity"])]
    return max(
        sweeps, key=lambda run: (counts.get(run["run_id"], 0), run["example_count"]), default=None
    )


def _needs(
    connection: Connection,
    request: PlanRequest,
    pilots: Sequence[Mapping[str, Any]],
    base: Mapping[str, Any] | None,
    levels: Sequence[int],
) -> list[CriterionNeed]:
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


def _priced(
    connection: Connection,
    request: PlanRequest,
    needs: Sequence[CriterionNeed],
    flips: Sequence[FlipNeed],
    runs: Sequence[Mapping[str, Any]],
    of_order: Sequence[Mapping[str, Any]],
    base: Mapping[str, Any] | None,
    levels: Sequence[int],
) -> VerdictPlan:
    """The plan with the cost of these needs."""
    lost = {
        need.level
        for need in needs
        if need.criterion is Criterion.accuracy
        and need.is_decided
        and (need.change or 0) < -need.margin
    }
    explained_needs = [need for need in needs if need.is_explained and need.level not in lost]
    explained_rows = max((need.n_needed for need in explained_needs), default=0)
    explained_levels = tuple(sorted({need.level for need in explained_needs}))
    rows = max(need.n_needed for need in needs if not need.is_explained)
    old = (
        SweepSpec.model_validate_json(base["spec"])
        if base
        else SweepSpec(
            model=runs[0]["model"] if runs else request.model,
            task=request.task,
            rows=Rows(sample=1),
            strategy=request.strategy,
            dtype="bfloat16" if gpu_count() else "float32",
        )
    )
    split_rows = request.split_rows or old.split_rows
    count = max(rows, explained_rows)
    if split_rows is not None:
        count = min(count, split_rows)
    explanation = (old.explain or Explanation()).model_copy(
        update={
            "rows": min(explained_rows, count),
            "levels": (0, *explained_levels),
            "level_rows": (),
        }
    )
    new = old.model_copy(
        update={
            "rows": grown_rows(old.rows, count),
            "levels": (0, *levels),
            "explain": explanation if explained_levels else None,
        }
    )
    dtype = base["dtype"] if base else old.dtype
    price = measured_price(
        connection, [run for run in runs if run["dtype"] == dtype], new.task_name
    )
    nested = nested_levels(of_order[0]) if of_order else NestedLevels(unit=request.strategy.unit)
    tokens = counted_tokens(new.explain, nested, price.prompts, count, levels)
    if base is not None:
        tokens -= counted_tokens(
            old.explain, nested, price.prompts, base["example_count"], base["levels"]
        )
    forward_tokens = max(0.0, tokens) * price.token_ratio
    return VerdictPlan(
        model=new.model,
        task=new.task_name,
        strategy=new.strategy.label,
        margins=request.margins,
        calibration=request.calibration,
        power=request.power,
        needs=tuple(needs),
        flips=tuple(flips),
        rows=rows,
        explained_rows=explained_rows,
        explained_levels=explained_levels,
        forward_tokens=round(forward_tokens),
        minutes=forward_tokens / price.tokens_per_second / 60,
        device=price.device,
        assumptions=tuple(_assumptions(needs, price, base, new.dtype)),
        split_rows=split_rows,
        command=sweep_command(new),
    )


def _plan_without_sweep(
    request: PlanRequest, model: str, task: str, flips: Sequence[FlipNeed]
) -> VerdictPlan:
    """The plan for a lake with candidates but without a pruned level."""
    return VerdictPlan(
        model=model,
        task=task,
        strategy=request.strategy.label,
        margins=request.margins,
        calibration=request.calibration,
        power=request.power,
        needs=(),
        flips=tuple(flips),
        rows=0,
        explained_rows=0,
        explained_levels=(),
        forward_tokens=0,
        minutes=0.0,
        device=None,
        assumptions=(),
        split_rows=request.split_rows,
        command="",
    )


def _assumptions(
    needs: Sequence[CriterionNeed],
    price: SweepPrice,
    base: Mapping[str, Any] | None,
    dtype: Dtype,
) -> Sequence[str]:
    sentences = []
    if any(need.spread_source == "nearest level" for need in needs):
        sentences.append("A level without a pilot gets the spread of the nearest level.")
    assumed = dict.fromkeys(
        f"{need.metric} {need.spread:g}" for need in needs if need.spread_source == "assumed"
    )
    if assumed:
        sentences.append(f"Spreads assumed without a pilot: {', '.join(assumed)}.")
    if base is None:
        sentences.append("The length of the prompts is assumed: 25 tokens, 45 with all options.")
    if price.device is None:
        sentences.append("The speed is assumed: 1,000 forward tokens a second.")
    if base is None and dtype == "bfloat16":
        sentences.append("This machine has a GPU, so the sweep takes bfloat16.")
    if dtype == "float32" and price.device not in (None, "cpu"):
        sentences.append(
            f"The lake's runs are in float32, which takes about {FLOAT32_SLOWDOWN} times as long "
            "as bfloat16 on a GPU: a new series of runs with --dtype bfloat16 costs less."
        )
    return sentences
