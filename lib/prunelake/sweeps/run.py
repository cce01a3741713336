"""A sweep: from a spec to a complete run in the lake."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence

from prunelake.evaluation.aopc_bounds import max_perturbed_prompt_count
from prunelake.lake import commit, read
from prunelake.lake.partial_runs import ORDER_SHARD, ComputeCost, PartialRun
from prunelake.schema.run_tables import CELL_TABLES, LAYERS
from prunelake.settings import Settings
from prunelake.spec import SweepSpec
from prunelake.sweeps import steps
from prunelake.sweeps.evaluate import ShardWork, shard_work
from prunelake.sweeps.executor import Executor, LocalExecutor, StepCall
from prunelake.sweeps.plan import SweepPlan
from prunelake.sweeps.progress import ProgressMeter
from prunelake.sweeps.reuse import find_cells
from prunelake.sweeps.run_rows import example_rows, layer_rows, order_from_layers, run_row
from prunelake.sweeps.shards import Shard, split_into_shards


def run_sweep(
    spec: SweepSpec, settings: Settings | None = None, executor: Executor | None = None
) -> str:
    """Evaluate one model on one task at every level. Returns the run's id.

        run_id = run_sweep(SweepSpec(task="opinions"), Settings())

    The command line calls this function directly; the Prefect flow passes an executor that runs the
    steps as tasks. Complete runs in the lake and finished shards of an interrupted run are reused.
    The lake shows the run only when it is complete.

    Raises:
        PruneLakeError: the spec cannot run (`plan.plan_sweep`), the model fails, or the lake cannot
            be written. Nothing is computed if the lake cannot be written.
    """
    settings = settings or Settings()
    executor = executor or LocalExecutor()
    plan = executor.run(StepCall(steps.prepare, (spec, settings), "prepare"))
    run_id = plan.identity.run_id
    partial_run = PartialRun(settings.lake.resolve(), run_id)
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
        # A process was killed between the commit of this run and its analysis.
        executor.run(StepCall(steps.analyse_run, (settings, run_id), "analyse_run"))
    return run_id


def _compute_run(
    plan: SweepPlan, settings: Settings, partial_run: PartialRun, executor: Executor
) -> None:
    """Compute the missing shards of a run, commit the run and analyse it."""
    started = time.perf_counter()
    run_id = plan.identity.run_id
    shards = split_into_shards(
        len(plan.examples),
        len(plan.explained_examples),
        dict(plan.explanation.level_rows if plan.explanation else ()).values(),
    )
    costs = _finished_costs(partial_run, shards, executor)
    reused_count = sum(shard.name in costs for shard in shards)
    if len(costs) < 1 + len(shards):  # otherwise only the commit is left
        costs |= _compute_shards(plan, settings, partial_run, executor, shards, costs)
    order = order_from_layers(partial_run.read_table(LAYERS, [ORDER_SHARD]))
    names = [shard.name for shard in shards]
    run = run_row(plan, order, [costs[name] for name in (ORDER_SHARD, *names)])
    frames = {
        "layers": layer_rows(run_id, order),
        "examples": example_rows(plan),
        **{table.name: partial_run.read_table(table, names) for table in CELL_TABLES},
    }
    executor.run(StepCall(steps.commit_run, (settings, run, frames), "commit_run"))
    partial_run.delete()
    executor.run(StepCall(steps.analyse_run, (settings, run_id), "analyse_run"))
    executor.log(
        f"run {run_id} is in the lake: {run['model']} {run['task']} {run['strategy']}; "
        f"{len(plan.examples)} examples, levels {list(plan.levels)}, {run['forward_tokens']} "
        f"forward tokens, {time.perf_counter() - started:.0f} s "
        f"({reused_count} of {len(shards)} shards were there already)"
    )
    executor.finish(run)


def _compute_shards(
    plan: SweepPlan,
    settings: Settings,
    partial_run: PartialRun,
    executor: Executor,
    shards: Sequence[Shard],
    finished: Mapping[str, ComputeCost],
) -> dict[str, ComputeCost]:
    """Compute the removal order and the shards that are not finished.

    Returns:
        Their costs by name.
    """
    costs: dict[str, ComputeCost] = {}
    missing = [shard for shard in shards if shard.name not in finished]
    with executor.shards(settings, partial_run) as run_shards:
        if ORDER_SHARD not in finished:
            partial_run.delete()  # shards of another order cannot be used
            call = StepCall(steps.order_layers, (plan, settings, partial_run), "order_layers")
            costs |= run_shards({ORDER_SHARD: call})
        order = order_from_layers(partial_run.read_table(LAYERS, [ORDER_SHARD]))
        cells = find_cells(settings.lake, plan, order.layers, executor.log)
        works = [shard_work(plan, shard, cells) for shard in missing]
        _log_work(works, executor)
        meter = ProgressMeter(plan, shards, works)
        executor.show(meter.start)
        calls = {
            work.shard.name: StepCall(
                steps.measure_shard, (work, order, settings, partial_run), str(work.shard)
            )
            for work in works
        }
        by_name = {shard.name: shard for shard in missing}
        for name, cost in run_shards(calls):
            costs[name] = cost
            executor.show(meter.add(by_name[name], cost))
    return costs


def _finished_costs(
    partial_run: PartialRun, shards: Sequence[Shard], executor: Executor
) -> dict[str, ComputeCost]:
    """The cost of the removal order and of each finished shard, by name.

    A damaged shard does not count as finished. Without the removal order, no shard counts.
    """
    costs: dict[str, ComputeCost] = {}
    for name in (ORDER_SHARD, *(shard.name for shard in shards)):
        cost = steps.finished_cost(partial_run, name, executor.log)
        if cost is not None:
            costs[name] = cost
        elif name == ORDER_SHARD:
            break
    return costs


def _log_work(works: Sequence[ShardWork], executor: Executor) -> None:
    """Log which cells are copied, and the cost of a search for bounds."""
    donors = sorted({copied.run_id for work in works for copied in work.copied})
    if donors:
        known, total = Counter[str](), Counter[str]()
        for work in works:
            known.update({name: rows.height for name, rows in work.known.items()})
            total.update(work.cell_counts)
        counts = (f"{known[name]} of {total[name]} {name}" for name in total if total[name])
        executor.log(f"copied from {', '.join(donors)}: {', '.join(counts)}")
    bounded = [
        (work, work.explanation, work.explanation.bounds_beam)
        for work in works
        if work.explanation is not None and work.explanation.bounds_beam is not None
    ]
    if bounded:
        count = sum(
            work.missing_shares["bounds"]
            * max_perturbed_prompt_count(
                [len(example.prompt) for example in work.examples],
                len(explanation.levels or work.levels),
                beam,
                explanation,
            )
            for work, explanation, beam in bounded
        )
        executor.log(
            f"bounds: a beam of {bounded[0][2]} asks about at most {count:.0f} changed prompts, "
            "each level counted"
        )
