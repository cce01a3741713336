"""Queries for runs: their rows, their names, their totals, and the accuracy of guessing."""

from collections.abc import Sequence

from prunelake.lake.sql.bound_query import BoundQuery
from prunelake.schema.verdicts import Verdict


def all_runs(run_ids: Sequence[str] | None = None) -> BoundQuery:
    """All rows of `runs`, or those of `run_ids`; runs with equal removal orders are adjacent."""
    return BoundQuery(
        """
        select *
        from runs
        where $run_ids is null or list_contains($run_ids, run_id)
        order by model, revision, strategy, removal_order, task, created_at, run_id
        """,
        run_ids=None if run_ids is None else list(run_ids),
    )


def headline_explanation(run_id: str) -> BoundQuery:
    """`method`, `operator` and `variant` of a run's headline explanation; no row without any.

    A published table may leave them unknown (null).
    """
    return BoundQuery(
        "select method, operator, variant from headlines where run_id = $run_id",
        run_id=run_id,
    )


def guessing_accuracy(run_id: str) -> BoundQuery:
    """One row: the accuracy of two guessers that see no prompt.

    `uniform` draws one of the options; `majority` always names the most frequent gold option. Both
    are null without log-likelihoods of all options: the options of the questions are unknown then.
    """
    return BoundQuery(
        """
        with unpruned as (
            select
                gold,
                len(option_log_likelihoods) as option_count,
                count(*) over (partition by gold) as equal_gold
            from predictions
            where run_id = $run_id and level = 0 and option_bytes is not null
        )
        select
            avg(1 / option_count) as uniform,
            max(equal_gold) / count(*) as majority
        from unpruned
        """,
        run_id=run_id,
    )


def latest_run(
    run_id: str | None, model: str | None, task: str | None, strategy: str | None
) -> BoundQuery:
    """The latest row of `runs` that matches every given value.

    Runs of level 0 alone are chosen last: a comparison shows their results. A model matches by its
    whole reference or by the last part of it.
    """
    return BoundQuery(
        """
        select *
        from runs
        where
            ($run_id is null or run_id = $run_id)
            and (
                $model is null
                or model = $model
                or model_name = $model
            )
            and ($task is null or task = $task)
            and ($strategy is null or strategy = $strategy)
        order by len(levels) > 1 desc, created_at desc, run_id
        limit 1
        """,
        run_id=run_id,
        model=model,
        task=task,
        strategy=strategy,
    )


def run_labels() -> BoundQuery:
    """name: model, task, strategy and id of each run; at most 50 rows."""
    return BoundQuery(
        """
        select format('{}, {}, {}, {}', model, task, strategy, run_id) as name
        from runs
        order by model, task, strategy, run_id
        limit 50
        """
    )


def model_runs() -> BoundQuery:
    """The runs of every model, the latest first, with the method of the headline explanation.

    kind and labels are those of the levels, as in the view levels.
    """
    return BoundQuery(
        """
        with named as (
            select
                run_id,
                any_value(kind) as kind,
                list(label order by level) as labels
            from levels
            group by run_id
        )

        select
            runs.run_id,
            runs.model,
            runs.revision,
            runs.architecture,
            runs.layer_count,
            runs.task,
            runs.strategy,
            runs.levels,
            named.kind,
            named.labels,
            runs.example_count,
            headlines.method as explained_by,
            runs.dtype,
            runs.created_at
        from runs
        inner join named on runs.run_id = named.run_id
        left join headlines on runs.run_id = headlines.run_id
        order by runs.model, runs.revision, runs.created_at desc, runs.run_id
        """
    )


def damaged_files() -> BoundQuery:
    """run x damaged file: the rows of `damaged_runs`."""
    return BoundQuery("select run_id, file from damaged_runs")


def totals_by_task() -> BoundQuery:
    """model x task: the numbers of runs, examples, forward tokens and hidden degradations.

    `unanalysed` counts runs without an analysis; no view lists these, so it reads `lake.analyses`.
    """
    return BoundQuery(
        """
        with hidden as (
            select run_id, count(*) as found
            from verdicts
            where verdict = $hidden
            group by run_id
        )

        select
            runs.model,
            runs.task,
            count(*) as runs,
            sum(runs.example_count) as examples,
            sum(runs.forward_tokens) as forward_tokens,
            count(*) filter (where analyses.run_id is null) as unanalysed,
            coalesce(sum(hidden.found), 0) as hidden_degradations
        from runs
        left join lake.analyses as analyses on runs.run_id = analyses.run_id
        left join hidden on runs.run_id = hidden.run_id
        group by runs.model, runs.task
        order by runs.model, runs.task
        """,
        hidden=Verdict.hidden_degradation,
    )


def compared_sweeps() -> BoundQuery:
    """source_run_id: the sweeps whose results comparisons show."""
    return BoundQuery(
        """
        select distinct source_run_id
        from levels
        where source_run_id is not null
        order by source_run_id
        """
    )
