"""One sweep of one model on one task, from spec to lake."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_link_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from flows.events import emit_hidden_degradations
from flows.progress import progress_reporter
from flows.runners import shard_executor
from flows.shards import finished_cost, is_transient, measure_shard, order_layers
from prunelake.analysis.analyse import analyse
from prunelake.errors import one_line
from prunelake.evaluation.aopc_bounds import max_perturbed_prompt_count
from prunelake.lake import commit, read, views
from prunelake.lake.partial_runs import ORDER_SHARD, ComputeCost, PartialRun
from prunelake.models.sources import pin_source
from prunelake.schema.run_tables import ATTRIBUTIONS, BOUNDS, DELETIONS, LAYERS, PREDICTIONS
from prunelake.settings import Settings
from prunelake.spec import SweepSpec
from prunelake.sweep.plan import SweepPlan, plan_sweep
from prunelake.sweep.run_rows import example_rows, layer_rows, order_from_layers, run_row
from prunelake.sweep.shard_work import TableFrames, shard_work
from prunelake.sweep.shards import Shard, split_into_shards

SUMMARY_QUERY = "select * exclude (run_id) from summary order by level"
HIDDEN_DEGRADATIONS_QUERY = """
    select
        level, metric, method, operator, variant, delta, delta_low, delta_high, p_adjusted,
        accuracy_delta, n
    from verdicts where verdict = 'hidden degradation'
    order by level, metric, method, operator, variant
"""


@flow(name="sweep", flow_run_name="{spec.model} {spec.task_name} {spec.strategy.label}")
def sweep(spec: SweepSpec, settings: Settings | None = None) -> str:
    """Evaluate one model on one task at every removal level; returns the run's id.

    A run that the lake has already is not computed again, and a shard of it that is finished
    neither. The lake sees the run when it is complete, or not at all.
    """
    settings = settings or Settings()
    logger = get_run_logger()
    work = prepare(spec, settings)
    run_id = work.identity.run_id
    unfinished = PartialRun(settings.lake.absolute(), run_id)

    def waiting() -> None:
        logger.info("run %s: another process computes it; waiting", run_id)

    if not read.has_run(settings.lake, run_id) or unfinished.exists():
        commit.check_writable(settings.lake)
        with unfinished.claim(waiting):
            if not read.has_run(settings.lake, run_id):
                compute_run(work, settings, unfinished)
                return run_id
            unfinished.delete()
    logger.info("run %s is in the lake already; nothing to compute", run_id)
    if run_id in read.unanalysed_run_ids(settings.lake):
        analyse_run(settings, run_id)
    return run_id


def compute_run(work: SweepPlan, settings: Settings, unfinished: PartialRun) -> None:
    """Compute the shards of a run that are missing, commit the run and sum it up."""
    started = time.perf_counter()
    run_id = work.identity.run_id
    shards = split_into_shards(len(work.examples), len(work.explained_examples))
    costs = finished_shards(unfinished, shards)
    missing = [shard for shard in shards if shard.name not in costs]
    progressed = progress_reporter(work, shards, missing)
    if missing or ORDER_SHARD not in costs:  # otherwise all that is left is to commit
        _log_bounds_cost(work, missing)
        with shard_executor(settings, unfinished) as measure:
            common = {"settings": settings, "unfinished": unfinished}
            if ORDER_SHARD not in costs:
                unfinished.delete()  # shards of another order are of no use
                costs |= measure(order_layers, {ORDER_SHARD: {"work": work, **common}})
            order = order_from_layers(unfinished.read_table(LAYERS, [ORDER_SHARD]))
            calls = {
                shard.name: {"work": shard_work(work, shard), "order": order, **common}
                for shard in missing
            }
            by_name = {shard.name: shard for shard in missing}
            for name, cost in measure(measure_shard, calls):
                costs[name] = cost
                progressed(by_name[name], cost)
    order = order_from_layers(unfinished.read_table(LAYERS, [ORDER_SHARD]))
    run = run_row(work, order, [costs[ORDER_SHARD], *(costs[shard.name] for shard in shards)])
    write(
        settings,
        run,
        {
            "layers": layer_rows(run_id, order),
            "examples": example_rows(work),
            **{
                table.name: unfinished.read_table(table, [shard.name for shard in shards])
                for table in (PREDICTIONS, ATTRIBUTIONS, DELETIONS, BOUNDS)
            },
        },
    )
    unfinished.delete()
    analyse_run(settings, run_id)
    hidden = announce_verdicts(settings, run)
    get_run_logger().info(
        "run %s is in the lake: %s %s %s; %d examples, levels %s, %d forward tokens, %.0f s "
        "(%d of %d shards were there already); %s",
        run_id,
        run["model"],
        run["task"],
        run["strategy"],
        len(work.examples),
        list(work.levels),
        run["forward_tokens"],
        time.perf_counter() - started,
        len(shards) - len(missing),
        len(shards),
        hidden,
    )


def finished_shards(unfinished: PartialRun, shards: Sequence[Shard]) -> dict[str, ComputeCost]:
    """What the removal order and the shards that are finished took, by name.

    One that is damaged is not finished. Without the removal order that they had, none is.
    """
    costs: dict[str, ComputeCost] = {}
    for name in (ORDER_SHARD, *(shard.name for shard in shards)):
        cost = finished_cost(unfinished, name)
        if cost is not None:
            costs[name] = cost
        elif name == ORDER_SHARD:
            break
    return costs


@task(cache_policy=NO_CACHE, retries=2, retry_delay_seconds=10, retry_condition_fn=is_transient)
def prepare(spec: SweepSpec, settings: Settings) -> SweepPlan:
    """Resolve the spec: weights, rows, levels, identity."""
    work = plan_sweep(spec, settings)
    return replace(work, source=pin_source(work.source))


@task(cache_policy=NO_CACHE, retries=2, retry_delay_seconds=5, retry_condition_fn=is_transient)
def write(settings: Settings, run: dict[str, Any], frames: TableFrames) -> None:
    """Commit the run to the lake."""
    commit.write_run(settings.lake, run, frames)


@task(cache_policy=NO_CACHE)
def analyse_run(settings: Settings, run_id: str) -> None:
    """Compute the run's intervals, tests and correlations beside it."""
    analyse(settings.lake, run_id)


def announce_verdicts(settings: Settings, run: dict[str, Any]) -> str:
    """Show and announce the run's summary and hidden degradations; what they say, in short.

    False discoveries are controlled over this run alone. The run is written, whatever happens here.
    """
    run_id = run["run_id"]
    what = f"Run {run_id}: {run['model']}, {run['task']}, {run['strategy']}"
    try:
        with views.connect(settings.lake, [run_id]) as connection:
            summary = views.select(connection, SUMMARY_QUERY).to_dicts()
            hidden = views.select(connection, HIDDEN_DEGRADATIONS_QUERY).to_dicts()
        levels = sorted({row["level"] for row in hidden})
        found = f"hidden degradations at levels {levels}" if hidden else "no hidden degradation"
        create_table_artifact(table=summary, key="sweep-summary", description=what)
        create_table_artifact(
            table=hidden, key="hidden-degradations", description=f"{what}: {found}"
        )
        if settings.page_url:
            create_link_artifact(
                link=f"{settings.page_url.rstrip('/')}/?run={run_id}",
                link_text=what,
                key="charts",
                description=f"{what}: charts, once the lake is published",
            )
        emit_hidden_degradations(run, hidden)
    except Exception as error:  # of the lake, DuckDB, the server or the way to it: all only show
        get_run_logger().warning(
            "run %s is written, but its verdicts are not shown: %s", run_id, one_line(error)
        )
        return "verdicts not shown"
    return found


def _log_bounds_cost(work: SweepPlan, missing: Sequence[Shard]) -> None:
    explanation = work.explanation
    if explanation is None or explanation.bounds_beam is None:
        return
    token_counts = [
        len(encoded.prompt)
        for shard in missing
        for encoded in work.explained_examples[shard.start : shard.stop]
    ]
    level_count = len(explanation.levels or work.levels)
    get_run_logger().info(
        "bounds: a beam of %d asks about at most %d changed prompts, each level counted",
        explanation.bounds_beam,
        max_perturbed_prompt_count(token_counts, level_count, explanation.bounds_beam, explanation),
    )
