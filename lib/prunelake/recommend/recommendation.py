"""What to remove: the deepest level that is shown to be no worse than the unpruned model.

The view `criteria` tests every level of a run. Here the runs are chosen, a level has to hold on
every task, and the strategies and the budget are set against each other.
"""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, Literal, Self

import polars as pl
from pydantic import Field

from prunelake.errors import InvalidRequest, NotFound, NothingToShow
from prunelake.lake.bound_query import BoundQuery, Connection
from prunelake.recommend.budget import COST_COLUMNS, CostBudget
from prunelake.recommend.candidates import Candidate, CostValues, Level, build_candidate
from prunelake.spec import FrozenValue

CalibrationMetric = Literal["ece", "smooth_ece", "brier", "nll"]

DEFAULT_MARGIN = 0.02
DEFAULT_CALIBRATOR = "temperature"


class Margins(FrozenValue):
    """How much worse each criterion may be, in its own unit."""

    accuracy: float = DEFAULT_MARGIN
    faithfulness: float = DEFAULT_MARGIN
    calibration: float = DEFAULT_MARGIN

    @classmethod
    def with_default(
        cls, margin: float, faithfulness: float | None = None, calibration: float | None = None
    ) -> Self:
        """One margin for all, but for what is set apart.

        Raises:
            InvalidRequest: a margin that is not above 0, or not finite.
        """
        found = {
            "accuracy": margin,
            "faithfulness": margin if faithfulness is None else faithfulness,
            "calibration": margin if calibration is None else calibration,
        }
        for name, value in found.items():
            if not (isfinite(value) and value > 0):
                raise InvalidRequest(f"margin of {name}: {value:g} is not above 0; 0.02 is usual")
        return cls(**found)


class RecommendationRequest(FrozenValue):
    """What is asked: a model (its reference or the last part of it), its tasks, and the terms.

    Without tasks it is about all on which the model was evaluated. `device` is where the costs of
    the budget were measured; it may be left out where there is one.
    """

    model: str
    tasks: tuple[str, ...] = ()
    budget: CostBudget = CostBudget()
    margins: Margins = Margins()
    calibration: CalibrationMetric = "ece"
    calibrator: str = DEFAULT_CALIBRATOR
    device: str | None = None


class Answer(FrozenValue):
    """What to take, of all candidates; a level of None says: none.

    `calibrator` is what the confidence is recalibrated by; None is the model as it is.
    """

    calibrator: str | None
    strategy: str | None
    dtype: str | None
    level: int | None
    run_ids: tuple[str, ...] = Field(description="The runs that it rests on, one a task.")
    removed: tuple[int, ...] = Field(description="The layers that lose their unit, ascending.")
    costs: dict[str, float | None]
    candidates: tuple[Candidate, ...]

    @property
    def candidate(self) -> Candidate | None:
        """The candidate whose level is recommended."""
        return next((one for one in self.candidates if one.run_ids == self.run_ids), None)


class Recommendation(FrozenValue):
    """The answers before and after recalibration, and what was asked."""

    model: str
    revision: str
    layer_count: int | None
    tasks: tuple[str, ...]
    budget: str
    margins: Margins
    calibration: CalibrationMetric
    device: str | None = Field(description="Where the costs were measured.")
    candidate_count: int = Field(description="How many removal orders were looked at.")
    as_it_is: Answer
    recalibrated: Answer


def recommend(connection: Connection, question: RecommendationRequest) -> Recommendation:
    """The deepest level of the best strategy that passes every criterion on every task.

    A criterion is passed where the upper end of the one-sided 95 % interval of its loss against the
    unpruned model lies below the margin (non-inferiority). Levels of a strategy are tested from the
    shallowest on, up to the first that fails: a fixed sequence, in which the chance of recommending
    any level that is worse is 5 % at most (Maurer, Hothorn, Lehmacher 1995). That all criteria and
    all tasks must pass needs no correction (Berger 1982).

    Raises:
        NotFound: no such model, task or calibrator, nothing measured on such a device, or several
            models or devices that could be meant.
        NothingToShow: no pruned level, none with the examples behind its values, or a budget whose
            costs were never measured.
    """
    runs = _latest_runs(connection, question.model)
    tasks = question.tasks or tuple(sorted(set(runs["task"])))
    if unknown := sorted(set(tasks) - set(runs["task"])):
        known = sorted(set(runs["task"]))
        raise NotFound(
            f"{runs['model'][0]} was not evaluated on {', '.join(unknown)}; "
            f"the lake has {', '.join(known)}",
            known,
        )
    chosen = _representative_runs(connection, runs.filter(pl.col("task").is_in(tasks)))
    run_ids = chosen["run_id"].to_list()
    _check_calibrator(connection, question.calibrator, run_ids)
    device, costs = _measured_costs(connection, question, runs["model"][0], chosen)
    checks = BoundQuery(
        """
        from criteria_at(
            accuracy_margin := $accuracy,
            faithfulness_margin := $faithfulness,
            calibration_margin := $calibration,
            calibration_metric := $metric,
            recalibrated_by := $calibrator,
            run_ids := $run_ids
        )
        order by run_id, level, criterion
        """,
        **question.margins.model_dump(),
        metric=question.calibration,
        calibrator=question.calibrator,
        run_ids=run_ids,
    ).rows(connection)
    if checks.is_empty():
        raise NothingToShow(f"{runs['model'][0]}: no pruned level was evaluated; sweep some levels")
    answers = [
        _best_answer(calibrator, chosen, tasks, checks, costs, question.budget)
        for calibrator in (None, question.calibrator)
    ]
    first = runs.row(0, named=True)
    return Recommendation(
        model=first["model"],
        revision=first["revision"],
        layer_count=first["layer_count"] or None,
        tasks=tasks,
        budget=str(question.budget),
        margins=question.margins,
        calibration=question.calibration,
        device=device,
        candidate_count=len(answers[0].candidates),
        as_it_is=answers[0],
        recalibrated=answers[1],
    )


def _latest_runs(connection: Connection, model: str) -> pl.DataFrame:
    """The runs of the latest revision of a model, the latest first."""
    runs = BoundQuery(
        """
        select *, regexp_extract(rtrim(model, '/'), '[^/:]+$') as name
        from runs
        order by created_at desc, run_id
        """
    ).rows(connection)
    found = runs.filter(model=model)
    if found.is_empty():
        found = runs.filter(name=model)
    models = sorted(set(found["model"]))
    if not models:
        known = sorted(set(runs["model"]))
        told = f"the lake has {', '.join(known[:9])}" if known else "sweep or import it first"
        raise NotFound(f"no run of model {model!r}; {told}", known)
    if len(models) > 1:
        raise NotFound(f"model {model!r} is {' or '.join(models)}: say which", models)
    found = found.filter(pl.col("example_count") > 0)
    if found.is_empty():
        raise NothingToShow(
            f"{models[0]} has no examples in the lake, only published values: no level can be "
            "shown to be no worse"
        )
    return found.filter(revision=found["revision"][0])


def _representative_runs(connection: Connection, runs: pl.DataFrame) -> pl.DataFrame:
    """One run for each removal order, number format and task.

    The one that explains most examples counts, then the one of most examples, then the latest: what
    was asked of a run, never what came out.
    """
    explained = BoundQuery(
        """
        select run_id, max(n) as explained_count
        from metrics
        where metric = 'comprehensiveness'
        group by run_id
        """
    ).rows(connection)
    return (
        runs.join(explained, on="run_id", how="left")
        .sort(
            pl.col("explained_count").fill_null(0),
            "example_count",
            "created_at",
            descending=True,
            nulls_last=True,
            maintain_order=True,
        )
        .unique(["strategy", "dtype", "removal_order", "task"], keep="first", maintain_order=True)
        .sort("strategy", "dtype", "task", "run_id")
    )


def _check_calibrator(connection: Connection, calibrator: str, run_ids: Sequence[str]) -> None:
    fitted = BoundQuery(
        "select distinct calibrator from recalibration where list_contains($run_ids, run_id)",
        run_ids=run_ids,
    )
    known = sorted(fitted.rows(connection)["calibrator"])
    if known and calibrator not in known:
        raise NotFound(f"no calibrator {calibrator!r}; there are {', '.join(known)}", known)


def _measured_costs(
    connection: Connection,
    question: RecommendationRequest,
    model: str,
    runs: pl.DataFrame,
) -> tuple[str | None, dict[str, dict[int, CostValues]]]:
    """The device, and the measured costs by run and level."""
    costs = BoundQuery(
        "from efficiency where list_contains($run_ids, run_id)", run_ids=runs["run_id"].to_list()
    )
    columns = dict.fromkeys(COST_COLUMNS.values())
    measured = costs.rows(connection).select("run_id", "level", "device", *columns)
    devices = sorted(set(measured["device"]))
    device = question.device or (devices[0] if len(devices) == 1 else None)
    asked = [term for term in question.budget.terms if term.name in COST_COLUMNS]
    if question.device is not None and question.device not in devices:
        raise NotFound(
            f"no cost of {model} was measured on {question.device!r}; "
            f"it was on {', '.join(devices) or 'none'}",
            devices,
        )
    of_device = measured.filter(device=device) if device else measured.clear()
    for term in asked:
        if measured[term.column].null_count() == measured.height:
            raise NothingToShow(
                f"budget term '{term}': {term.name} was never measured for {model}; "
                f"`prunelake profile --model {model} --strategy {runs['strategy'][0]}` measures it"
            )
        if device is None:
            raise NotFound(
                f"budget term '{term}': {term.name} was measured on {' and '.join(devices)}; "
                "choose one by device",
                devices,
            )
    found: dict[str, dict[int, CostValues]] = {}
    for row in of_device.drop("device").iter_rows(named=True):
        found.setdefault(row.pop("run_id"), {})[row.pop("level")] = row
    return device, found


def _best_answer(
    calibrator: str | None,
    runs: pl.DataFrame,
    tasks: Sequence[str],
    checks: pl.DataFrame,
    costs: Mapping[str, Mapping[int, CostValues]],
    budget: CostBudget,
) -> Answer:
    ours = checks.filter(pl.col("calibrator").eq_missing(pl.lit(calibrator)))
    candidates = tuple(
        build_candidate(group.to_dicts(), tasks, ours, costs, budget)
        for _, group in runs.group_by("strategy", "dtype", "removal_order", maintain_order=True)
    )
    found = [(one, one.level_at(one.level)) for one in candidates if one.level is not None]
    if not found:
        nothing: dict[str, Any] = dict.fromkeys(("strategy", "dtype", "level"))
        nothing |= {"run_ids": (), "removed": (), "costs": {}}
        return Answer(calibrator=calibrator, candidates=candidates, **nothing)
    best, at = min(found, key=lambda pair: _preference_key(pair[0], pair[1], budget))
    return Answer(
        calibrator=calibrator,
        strategy=best.strategy,
        dtype=best.dtype,
        level=at.level,
        run_ids=best.run_ids,
        removed=tuple(sorted(best.removal_order[: at.level])),
        costs=at.costs,
        candidates=candidates,
    )


def _preference_key(one: Candidate, at: Level, budget: CostBudget) -> tuple[float, float, str]:
    """The least is best: saves most of what the budget names first, then loses least calibration.

    Without a budget it is the number of layers removed.
    """
    saved = float(at.level)
    if budget.terms:
        term = budget.terms[0]
        saved = (at.costs[term.column] or 0) * (1 if term.more_is_better else -1)
    losses = [c.loss for c in at.checks if c.criterion == "calibration" and c.loss is not None]
    return -saved, max(losses, default=0), one.strategy
