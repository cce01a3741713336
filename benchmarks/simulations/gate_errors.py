"""The error rates of a gate: how often it fails or passes wrongly, and its planned power.

    python -m benchmarks.simulations.gate_errors [--gates 600] [--seed 0]

Each simulated gate has six criteria on one run. Four options have latent scores, their softmax
draws the right option, and the candidate adds noise to the scores of the baseline, so that
accuracy falls and the other metrics rise. A third of the examples is explained. The analysis, the
evidence and the decision are those of `prunelake gate`. The tables of docs/gate.md:

- fixed: all rows at once. `at the margin`: the true loss equals the margin.
- looks: a sequential run, looked at in rounds. No round ends it, so every look may err.
- planned: the examples that a pilot of 600 rows says are needed, and the share of new runs with so
  many that decide as planned. Of 50 pilots the one counts whose loss is nearest to the true loss.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from scipy.special import log_softmax

from prunelake.analysis.analyse import add_looks
from prunelake.analysis.bootstrap import bootstrap_metrics
from prunelake.analysis.example_scores import ExampleScores, MetricKey, build_example_scores
from prunelake.analysis.looks import FIXED, LookSize, RunLooks
from prunelake.analysis.metric_rows import metric_rows
from prunelake.gate.criterion import Criterion
from prunelake.gate.decision import decide
from prunelake.gate.evidence import Evidence, RunEvidence
from prunelake.gate.needed_examples import planned_examples
from prunelake.gate.results import Result, overall
from prunelake.schema.metrics import EXPLANATION_METRICS
from prunelake.spec import SequentialDesign
from prunelake.sweeps.until_decided.rounds import round_sizes

ROWS, PILOTS, POPULATION, REPLICATES = 600, 50, 300_000, 200
SPREAD, BASELINE_NOISE, CANDIDATE_NOISE = 1.5, 0.15, 0.7
EXPLAINED_SHARE = 1 / 3
LOSS_OF_EXPLANATION = 0.03

Losses = Mapping[str, float]

EXPLAINED_KEY: MetricKey = ("comprehensiveness", "kernel_shap", "delete_text", "eraser")
CELLS: tuple[MetricKey, ...] = (
    *((name, "", "", "") for name in ("accuracy", "nll", "flip_rate", "kl_from_unpruned")),
    EXPLAINED_KEY,
)
METRICS = ("accuracy", "ece", "nll", "flip_rate", "kl_from_unpruned", "comprehensiveness")


def simulated_scores(generator: np.random.Generator, n: int, noise: float) -> ExampleScores:
    """A baseline (level 0) and a candidate with this noise (level 1)."""
    latent = SPREAD * generator.standard_normal((n, 4))
    gold = (latent + generator.gumbel(size=latent.shape)).argmax(axis=1)
    sds = BASELINE_NOISE, noise
    log_p = [
        log_softmax(latent + sd * generator.standard_normal(latent.shape), axis=1) for sd in sds
    ]
    values = np.full((2, n, len(CELLS)), np.nan)
    explained = int(n * EXPLAINED_SHARE)
    own = 0.25 + 0.2 * generator.standard_normal(explained)
    for level in (0, 1):
        values[level, :, 0] = log_p[level].argmax(axis=1) == gold
        values[level, :, 1] = -log_p[level][np.arange(n), gold]
        values[level, :, 2] = log_p[level].argmax(axis=1) != log_p[0].argmax(axis=1)
        values[level, :, 3] = (np.exp(log_p[0]) * (log_p[0] - log_p[level])).sum(axis=1)
        values[level, :explained, 4] = (
            own
            + 0.1 * generator.standard_normal(explained)
            - LOSS_OF_EXPLANATION * level * (noise > BASELINE_NOISE)
        )
    confidence = np.exp([p.max(axis=1) for p in log_p])
    names = tuple(f"test:{i}" for i in range(n))
    return build_example_scores((0, 1), CELLS, values, confidence, values[:, :, 0], names)


def run_evidence(scores: ExampleScores, sizes: Sequence[int] = ()) -> RunEvidence:
    """The evidence of a run, as an analysis and `RunEvidence.read` give it."""
    looks = FIXED
    if sizes:
        explained = [{1: int(size * EXPLAINED_SHARE)} for size in sizes]
        looks = RunLooks(
            SequentialDesign(
                margin=0.02,
                planned_rows=sizes[-1],
                planned_explained=tuple(explained[-1].items()),
            ),
            tuple(LookSize("", *size) for size in zip(sizes, explained, strict=True)),
        )
    rows = metric_rows(scores, bootstrap_metrics(scores, REPLICATES, 0), looks)
    look_rows: list[dict[str, Any]] = []
    if sizes:
        positions = range(len(scores.example_ids))
        look_rows = add_looks(rows, scores, positions, REPLICATES, looks)
    differences = [
        row | {"value": row["paired_value"], "n": row["paired_n"], "is_headline": True}
        for row in rows
        if row["level"] == 1
    ]
    correct = pl.DataFrame(
        {
            "level": pl.repeat(1, len(scores.example_ids), eager=True),
            "position": range(len(scores.example_ids)),
            "is_correct": scores.correct[1] == 1,
            "unpruned_is_correct": scores.correct[0] == 1,
        }
    )
    return RunEvidence(
        [_as_in_sql(row) for row in differences], correct, looks, [*map(_as_in_sql, look_rows)]
    )


def _as_in_sql(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the analysis as the views show it: null for NaN and for the empty text."""
    return {
        name: None if value == "" or (isinstance(value, float) and np.isnan(value)) else value
        for name, value in row.items()
    }


def true_losses(noise: float) -> dict[str, float]:
    """The losses in a large population."""
    scores = simulated_scores(np.random.default_rng(99), POPULATION, noise)
    rows = metric_rows(scores, bootstrap_metrics(scores, 1, 0), FIXED)
    deltas = {row["metric"]: row["delta"] for row in rows if row["level"] == 1}
    return {
        name: -deltas[name] if name in ("accuracy", "comprehensiveness") else deltas[name]
        for name in METRICS
    }


def evidence_of(run: RunEvidence, margins: Losses) -> list[Evidence]:
    """The evidence for each criterion."""
    return [run.of(Criterion(metric=name, margin=margins[name]), 1) for name in METRICS]


def result_of(run: RunEvidence, margins: Losses) -> Result:
    """The result of the gate."""
    decisions = decide(evidence_of(run, margins), [margins[name] for name in METRICS])
    return overall([decision.result for decision in decisions])


def error_table(generator: np.random.Generator, gates: int, is_sequential: bool) -> Iterator[str]:
    """The results of gates on one set of runs, under several sets of margins."""
    losses = true_losses(CANDIDATE_NOISE)
    wide = {name: 4 * loss for name, loss in losses.items()}
    margins = {"all at the margin": losses} | {
        f"{name} at the margin": wide | {name: losses[name]} for name in METRICS
    }
    sizes = round_sizes(100, ROWS) if is_sequential else ()
    found: dict[str, list[Result]] = {name: [] for name in ("no change", *margins)}
    for _ in range(gates):
        run = run_evidence(simulated_scores(generator, ROWS, CANDIDATE_NOISE), sizes)
        for name, chosen in margins.items():
            found[name].append(result_of(run, chosen))
        same = run_evidence(simulated_scores(generator, ROWS, BASELINE_NOISE), sizes)
        found["no change"].append(result_of(same, losses))
    se = np.sqrt(0.05 * 0.95 / gates)
    kind = f"looks at {', '.join(map(str, sizes))}" if sizes else f"fixed, {ROWS} rows"
    for name, results in found.items():
        shares = [results.count(result) / gates for result in Result]
        yield f"| {kind} | {name} | {gates} | {' | '.join(f'{x:.3f}' for x in shares)} | {se:.3f} |"


def power_table(generator: np.random.Generator, gates: int) -> Iterator[str]:
    """The share of runs with the needed rows that decide as planned, by metric."""
    losses = true_losses(CANDIDATE_NOISE)
    drawn = [
        run_evidence(simulated_scores(generator, ROWS, CANDIDATE_NOISE)) for _ in range(PILOTS)
    ]
    for name in METRICS:
        for factor, wanted in ((0.5, Result.failed), (2.0, Result.passed)):
            margin = factor * losses[name]
            pilots = [run.of(Criterion(metric=name, margin=margin), 1) for run in drawn]
            pilot = min(pilots, key=lambda found: abs((found.loss or 0) - losses[name]))
            planned = planned_examples(pilot, margin, len(METRICS))
            assert planned is not None
            rows = planned * (3 if name in EXPLANATION_METRICS else 1)
            hits = [_decided(generator, name, margin, rows) is wanted for _ in range(gates)]
            yield (
                f"| {name} | {losses[name]:.3f} | {margin:.3f} | {wanted} | {planned:,} "
                f"| {np.mean(hits):.2f} | {np.sqrt(0.8 * 0.2 / gates):.2f} |"
            )


def _decided(generator: np.random.Generator, name: str, margin: float, rows: int) -> Result:
    run = run_evidence(simulated_scores(generator, rows, CANDIDATE_NOISE))
    others = [Evidence()] * (len(METRICS) - 1)
    found = run.of(Criterion(metric=name, margin=margin), 1)
    return decide([found, *others], [margin] * len(METRICS))[0].result


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--gates", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--power-only", action="store_true", help="only the last table")
    given = parser.parse_args()
    print("| rows | true losses | gates | passed | failed | undecided | se |")
    print("|---|---|---|---|---|---|---|")
    for is_sequential in () if given.power_only else (False, True):
        generator = np.random.default_rng(given.seed)
        for text in error_table(
            generator, given.gates // (2 if is_sequential else 1), is_sequential
        ):
            print(text, flush=True)
    print("\n| metric | loss | margin | planned | examples | decided as planned | se |")
    print("|---|---|---|---|---|---|---|")
    for text in power_table(np.random.default_rng(given.seed), given.gates // 6):
        print(text, flush=True)


if __name__ == "__main__":
    main()
