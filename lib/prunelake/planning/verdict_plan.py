"""Plan verdicts: the rows and explained rows that each criterion needs, and their cost."""

from collections.abc import Mapping, Sequence
from typing import Any

from prunelake.command_line import grown_rows, sweep_command
from prunelake.errors import InvalidRequest, NotFound, NothingToShow
from prunelake.identity import run_kind, sweep_spec
from prunelake.lake.sql.bound_query import BoundQuery, Connection
from prunelake.models.gpu.device_names import FLOAT32_SLOWDOWN, gpu_count
from prunelake.planning.cost import (
    NestedLevels,
    SweepPrice,
    counted_tokens,
    measured_price,
    nested_levels,
)
from prunelake.planning.criterion_needs import criterion_needs
from prunelake.planning.flips import FlipNeed, flip_needs
from prunelake.planning.needs import CriterionNeed, VerdictPlan
from prunelake.planning.request import PlanRequest
from prunelake.recommend.evidence import latest_runs
from prunelake.recommend.request import Criterion
from prunelake.spec import Dtype, Explanation, Rows, SweepSpec, task_name

MAX_NAMED = 9
"""The most models or runs that an error names."""


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
        raise _nothing_to_plan(connection, request, task, runs)
    if not pruned:
        return _plan_without_sweep(request, runs[0]["model"], task, flips)
    needs = criterion_needs(connection, request, pilots, base, pruned)
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


def _nothing_to_plan(
    connection: Connection,
    request: PlanRequest,
    task: str,
    runs: Sequence[Mapping[str, Any]],
) -> NothingToShow:
    """The error without a pruned level; it names the lake's models, or the runs of the model."""
    if runs:
        known = sorted({f"task {run['task']}, strategy {run['strategy']}" for run in runs})
        remedy = f"the lake has {'; '.join(known[:MAX_NAMED])}"
    else:
        query = BoundQuery("select distinct model from runs order by model")
        known = [row["model"] for row in query.records(connection)]
        remedy = f"the lake has {', '.join(known[:MAX_NAMED]) or 'no runs'}"
    return NothingToShow(
        f"the lake has no pruned level of {request.model} on {task} with strategy "
        f"{request.strategy.label} to plan for; give levels ({remedy})",
        known,
    )


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
    sweeps = [run for run in pilots if run_kind(run["identity"]) == "sweep"]
    return max(
        sweeps, key=lambda run: (counts.get(run["run_id"], 0), run["example_count"]), default=None
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
        sweep_spec(base)
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
