"""Check the criteria of a gate against the results in a lake.

A check passes if the one-sided 95 % bound of the loss is below the margin. All checks must pass, so
the gate passes wrongly with a probability of at most 5 %, however many checks it has (intersection-
union test: Berger 1982). A check fails if its loss is shown to exceed the margin. One failure fails
the gate, so the p-values of all checks share 5 % (Holm 1979). Otherwise a check is undecided.
"""

import math

from scipy.special import ndtri

from prunelake.gate.evidence import Evidence, RunEvidence
from prunelake.gate.gate_file import Criterion, Gate
from prunelake.gate.margin_tests import ONE_SIDED_LEVEL, holm_adjusted, worse_p_value
from prunelake.gate.results import Check, GateResult, Result
from prunelake.gate.run_choice import choose_runs
from prunelake.lake.read import check_files
from prunelake.lake.sql.views import connect
from prunelake.lake.storage.location import Location

POWER_QUANTILE = float(ndtri(0.8))
"""The normal quantile of a power of 80 %, as for `n_needed` in the view `criteria`."""


def check_gate(lake: Location, gate: Gate) -> GateResult:
    """Check every criterion of a gate on the runs in a lake. The lake stays as it is.

        check_gate(Path("lake"), read_gate(Path("gate.yaml"))).exit_code

    Raises:
        InvalidSpec: the lake has no such run, task or level, or several runs match.
        NotFound, NothingToShow: the lake has no such model, or no examples of it.
        LakeError: no lake, or a damaged file of a chosen run.
    """
    with connect(lake) as connection:
        runs = choose_runs(connection, gate)
    check_files(lake, runs.values())
    found = []
    for task, run_id in runs.items():
        of_run = RunEvidence(lake, run_id, gate.levels)
        for criterion in gate.criteria:
            if task in gate.tasks_of(criterion):
                found += [
                    (criterion, task, run_id, level, of_run.of(criterion, level))
                    for level in gate.levels
                ]
    p_values = [worse_p_value(item[-1].looks, item[0].margin) for item in found]
    adjusted = holm_adjusted(p_values)
    checks = [
        _check(*item, p_value=p, adjusted=q, count=len(found))
        for item, p, q in zip(found, p_values, adjusted, strict=True)
    ]
    results = {check.result for check in checks}
    if Result.failed in results:
        result = Result.failed
    else:
        result = Result.passed if results == {Result.passed} else Result.undecided
    return GateResult(result=result, checks=tuple(checks))


def _check(
    criterion: Criterion,
    task: str,
    run_id: str,
    level: int,
    evidence: Evidence,
    p_value: float,
    adjusted: float,
    count: int,
) -> Check:
    sign = -1 if criterion.higher_is_better else 1
    ends = [None if end is None else 0.0 + sign * end for end in (evidence.low, evidence.high)]
    if adjusted <= ONE_SIDED_LEVEL:
        result = Result.failed
    elif evidence.high is not None and evidence.high < criterion.margin:
        result = Result.passed
    else:
        result = Result.undecided
    return Check(
        metric=criterion.metric,
        task=task,
        candidate=f"level {level}",
        run_id=run_id,
        level=level,
        method=evidence.method or criterion.method,
        operator=evidence.operator or criterion.operator,
        variant=evidence.variant or criterion.variant,
        direction="higher" if criterion.higher_is_better else "lower",
        margin=criterion.margin,
        baseline_value=evidence.baseline_value,
        value=evidence.value,
        change=None if evidence.loss is None else 0.0 + sign * evidence.loss,
        change_low=ends[0] if sign > 0 else ends[1],
        change_high=ends[1] if sign > 0 else ends[0],
        n=evidence.n,
        p_worse=p_value,
        p_worse_adjusted=adjusted,
        result=result,
        n_needed=_needed(evidence, criterion.margin, count) if result is Result.undecided else None,
        note=evidence.note,
    )


def _needed(evidence: Evidence, margin: float, count: int) -> int | None:
    """The examples that decide with a probability of 80 % if the loss is the true loss.

    The half width of an interval and the standard error are proportional to 1 / sqrt(n).
    """
    loss, n, se = evidence.loss, evidence.n, evidence.se or 0.0
    if loss is None or n is None or evidence.high is None or evidence.low is None or loss == margin:
        return None
    if loss < margin:
        reach = evidence.high - loss
    else:
        # The first step of Holm's correction tests at this share of the error.
        reach = (loss - evidence.low) * float(ndtri(ONE_SIDED_LEVEL / count) / ndtri(0.05))
    return math.ceil(n * ((reach + POWER_QUANTILE * se) / (margin - loss)) ** 2)
