"""A sweep: from a spec to a complete run in the lake."""

import time
from collections.abc import Sequence

from prunelake.evaluation.aopc_bounds import max_perturbed_prompt_count
from prunelake.lake import commit, read
from prunelake.lake.partial_runs import ORDER_SHARD, ComputeCost, PartialRun
from prunelake.schema.run_tables import ATTRIBUTIONS, BOUNDS, DELETIONS, LAYERS, PREDICTIONS
from prunelake.settings import Settings
from prunelake.spec import SweepSpec
from prunelake.sweep import steps
from prunelake.sweep.evaluate import shard_work
from prunelake.sweep.executor import Executor, LocalExecutor, StepCall
from prunelake.sweep.plan import SweepPlan
from prunelake.sweep.progress import ProgressMeter
from prunelake.sweep.run_rows import example_rows, layer_rows, order_from_layers, run_row
from prunelake.sweep.shards import Shard, split_into_shards


def run_sweep(
    spec: SweepSpec, settings: Settings | None = None, executor: Executor | None = None
) -> str:
    """Evaluate one model on one task at every level; the run's id.

        run_id = run_sweep(SweepSpec(task="opinions"), Settings())

    The command line calls this function directly; the Prefect flow passes an executor that runs the
    steps as tasks. Nothing that the lake has is computed again: neither a complete run nor a
    finished shard of an interrupted run. The lake shows the run when it is complete, or not at all.

    Raises:
        PruneLakeError: the spec cannot run (`plan.plan_sweep`), the model fails, or the lake cannot
            be written. Nothing is computed if the lake cannot be written.
    """
    settings = settings or Settings()
    executor = executor or LocalExecutor()
    plan = executor.run(StepCall(steps.prepare, (spec, settings), "prepare"))
    run_id = plan.identity.run_id
    partial_run = PartialRun(settings.lake.absolute(), run_id)
    if not read.has_run(settings.lake, run_id) or partial_run.exists():
        commit.check_writable(settings.lake)
        with partial_run.claim(
            lambda: executor.log(f"run {run_id}: another process computes it; waiting")
        ):
            if not read.has_run(settings.lake, run_id):
                _compute_run(plan, settings, partial_run, executor)
                return run_id
            partial_run.delete()
    executor.log(f"run {run_id} is in the lake already; nothing to compute")
    if run_id in read.unanalysed_run_ids(settings.lake):
        # A process was killed between a run and its analysis.
        executor.run(StepCall(steps.analyse_run, (settings, run_id), "analyse_run"))
    return run_id


def _compute_run(
    plan: SweepPlan, settings: Settings, partial_run: PartialRun, executor: Executor
) -> None:
    """Compute the missing shards of a run, commit the run and analyse it."""
    started = time.perf_counter()
    run_id = plan.identity.run_id
    shards = split_into_shards(len(plan.examples), len(plan.explained_examples))
    costs = _finished_costs(partial_run, shards, executor)
    missing = [shard for shard in shards if shard.name not in costs]
    meter = ProgressMeter(plan, shards, missing)
    executor.show(meter.start)
    if missing or ORDER_SHARD not in costs:  # otherwise only the commit is left
        _log_bounds_cost(plan, missing, executor)
        with executor.shards(settings, partial_run) as run_shards:
            if ORDER_SHARD not in costs:
                partial_run.delete()  # shards of another order cannot be used
                arguments = (plan, settings, partial_run)
                call = StepCall(steps.order_layers, arguments, "order_layers")
                costs |= run_shards({ORDER_SHARD: call})
            order = order_from_layers(partial_run.read_table(LAYERS, [ORDER_SHARD]))
            calls = {
                shard.name: StepCall(
                    steps.measure_shard,
                    (shard_work(plan, shard), order, settings, partial_run),
                    str(shard),
                )
                for shard in missing
            }
            by_name = {shard.name: shard for shard in missing}
            for name, cost in run_shards(calls):
                costs[name] = cost
                executor.show(meter.add(by_name[name], cost))
    order = order_from_layers(partial_run.read_table(LAYERS, [ORDER_SHARD]))
    names = [shard.name for shard in shards]
    run = run_row(plan, order, [costs[name] for name in (ORDER_SHARD, *names)])
    frames = {
        "layers": layer_rows(run_id, order),
        "examples": example_rows(plan),
        **{
            table.name: partial_run.read_table(table, names)
            for table in (PREDICTIONS, ATTRIBUTIONS, DELETIONS, BOUNDS)
        },
    }
    executor.run(StepCall(steps.commit_run, (settings, run, frames), "commit_run"))
    partial_run.delete()
    executor.run(StepCall(steps.analyse_run, (settings, run_id), "analyse_run"))
    executor.log(
        f"run {run_id} is in the lake: {run['model']} {run['task']} {run['strategy']}; "
        f"{len(plan.examples)} examples, levels {list(plan.levels)}, {run['forward_tokens']} "
        f"forward tokens, {time.perf_counter() - started:.0f} s "
        f"({len(shards) - len(missing)} of {len(shards)} shards were there already)"
    )
    executor.finish(run)


def _finished_costs(
    partial_run: PartialRun, shards: Sequence[Shard], executor: Executor
) -> dict[str, ComputeCost]:
    """The cost of the removal order and of each finished shard, by name.

    A damaged shard is not finished. Without the removal order, no shard is.
    """
    costs: dict[str, ComputeCost] = {}
    for name in (ORDER_SHARD, *(shard.name for shard in shards)):
        cost = steps.finished_cost(partial_run, name, executor.log)
        if cost is not None:
            costs[name] = cost
        elif name == ORDER_SHARD:
            break
    return costs


def _log_bounds_cost(plan: SweepPlan, missing: Sequence[Shard], executor: Executor) -> None:
    explanation = plan.explanation
    if explanation is None or explanation.bounds_beam is None:
        return
    token_counts = [
        len(example.prompt)
        for shard in missing
        for example in plan.explained_examples[shard.start : shard.stop]
    ]
    level_count = len(explanation.levels or plan.levels)
    beam = explanation.bounds_beam
    count = max_perturbed_prompt_count(token_counts, level_count, beam, explanation)
    executor.log(
        f"bounds: a beam of {beam} asks about at most {count} changed prompts, each level counted"
    )
