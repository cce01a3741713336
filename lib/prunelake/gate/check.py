"""Check the criteria of a gate against the results in a lake."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prunelake.gate.decision import Decision, decide, overall
from prunelake.gate.evidence import Evidence, RunEvidence
from prunelake.gate.gate_file import Criterion, Gate
from prunelake.gate.results import Check, GateResult
from prunelake.gate.run_choice import choose_runs
from prunelake.lake.read import check_files
from prunelake.lake.sql.views import connect
from prunelake.lake.storage.location import Location


@dataclass(frozen=True)
class Question:
    """One criterion on one task for one candidate, with the evidence of the task's run."""

    criterion: Criterion
    task: str
    run_id: str
    level: int
    evidence: Evidence


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
    return check_runs(lake, gate, runs)


def check_runs(lake: Location, gate: Gate, runs: Mapping[str, str]) -> GateResult:
    """Check every criterion on these runs, given by task.

    Raises:
        LakeError: no such run, or a damaged file of a run.
    """
    check_files(lake, runs.values())
    asked = list(_questions(lake, gate, runs))
    decisions = decide(
        [question.evidence for question in asked], [question.criterion.margin for question in asked]
    )
    return GateResult(
        result=overall([decision.result for decision in decisions]),
        checks=tuple(map(_check, asked, decisions)),
    )


def _questions(lake: Location, gate: Gate, runs: Mapping[str, str]) -> Iterator[Question]:
    for task, run_id in runs.items():
        of_run = RunEvidence(lake, run_id, gate.levels)
        for criterion in gate.criteria:
            if task in gate.tasks_of(criterion):
                for level in gate.levels:
                    evidence = of_run.of(criterion, level)
                    yield Question(criterion, task, run_id, level, evidence)


def _check(question: Question, decision: Decision) -> Check:
    criterion, evidence = question.criterion, question.evidence
    sign = -1 if criterion.higher_is_better else 1

    def change(loss: float | None) -> float | None:
        return None if loss is None else 0.0 + sign * loss

    ends = change(evidence.low), change(evidence.high)
    low, high = ends if sign > 0 else ends[::-1]
    return Check(
        metric=criterion.metric,
        task=question.task,
        candidate=f"level {question.level}",
        run_id=question.run_id,
        level=question.level,
        method=evidence.method or criterion.method,
        operator=evidence.operator or criterion.operator,
        variant=evidence.variant or criterion.variant,
        direction="higher" if criterion.higher_is_better else "lower",
        margin=criterion.margin,
        baseline_value=evidence.baseline_value,
        value=evidence.value,
        change=change(evidence.loss),
        change_low=low,
        change_high=high,
        n=evidence.n,
        p_worse=decision.p_value,
        p_worse_adjusted=decision.adjusted,
        result=decision.result,
        n_needed=decision.n_needed,
        note=evidence.note,
    )
