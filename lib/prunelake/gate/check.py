"""Check the criteria of a gate against the results in a lake."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prunelake.gate.criterion import Criterion
from prunelake.gate.decision import Decision, decide
from prunelake.gate.evidence import Evidence, RunEvidence
from prunelake.gate.gate_file import Gate
from prunelake.gate.results import Check, GateResult, overall
from prunelake.gate.run_choice import Candidate, candidates_of, choose_runs
from prunelake.lake.read import check_files
from prunelake.lake.sql.views import connect
from prunelake.lake.storage.location import Location


@dataclass(frozen=True)
class Question:
    """One criterion on one task for one candidate, with the evidence of the task's run."""

    criterion: Criterion
    task: str
    run_id: str
    candidate: Candidate
    evidence: Evidence


def check_gate(lake: Location, gate: Gate) -> GateResult:
    """Check every criterion of a gate on the runs in a lake. The lake stays as it is.

        check_gate(Path("lake"), read_gate(Path("gate.yaml"))).exit_code

    Raises:
        InvalidSpec: the lake has no such run, task or candidate, or several runs match.
        NotFound, NothingToShow: the lake has no such model, or no examples of it.
        LakeError: no lake, or a damaged file of a chosen run.
    """
    with connect(lake) as connection:
        runs = choose_runs(connection, gate)
    return check_runs(lake, gate, runs)


def check_runs(lake: Location, gate: Gate, runs: Mapping[str, str]) -> GateResult:
    """Check every criterion of a gate on these runs, given by task.

    Raises:
        InvalidSpec: a run lacks a candidate.
        LakeError: no such run, or a damaged file of a run.
    """
    check_files(lake, runs.values())
    asked = [
        question
        for task, run_id in runs.items()
        for question in _questions(lake, gate, task, run_id)
    ]
    decisions = decide(
        [question.evidence for question in asked], [question.criterion.margin for question in asked]
    )
    return GateResult(
        result=overall([decision.result for decision in decisions]),
        checks=tuple(map(_check, asked, decisions)),
    )


def _questions(lake: Location, gate: Gate, task: str, run_id: str) -> Iterator[Question]:
    with connect(lake, [run_id]) as connection:
        candidates = candidates_of(connection, gate, run_id)
        of_run = RunEvidence.read(connection, [candidate.level for candidate in candidates])
    for criterion in gate.criteria_of(task):
        for candidate in candidates:
            evidence = of_run.of(criterion, candidate.level)
            yield Question(criterion, task, run_id, candidate, evidence)


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
        candidate=question.candidate.label,
        run_id=question.run_id,
        level=question.candidate.level,
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
        se=evidence.se,
        n=evidence.n,
        p_worse=decision.p_value,
        p_worse_adjusted=decision.adjusted,
        result=decision.result,
        n_needed=decision.n_needed,
        note=evidence.note,
    )
