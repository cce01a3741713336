"""Queries for charts that compare runs of one model, or models by size."""

from prunelake.lake.sql.bound_query import BoundQuery


def correlation_matrix(run_id: str) -> BoundQuery:
    """task x metric: Spearman correlation with accuracy over all levels, and its interval.

    It covers all tasks of the run's model, revision and strategy: for its own task the run itself,
    for each other task the latest run.
    """
    return BoundQuery(
        """
        with compared as (
            select
                runs.run_id,
                runs.task
            from runs
            inner join runs as subject
                on
                    runs.model = subject.model
                    and runs.revision = subject.revision
                    and runs.strategy = subject.strategy
            where subject.run_id = $run_id
            qualify row_number() over (
                partition by runs.task
                order by runs.run_id = $run_id desc, runs.created_at desc, runs.run_id
            ) = 1
        )

        select
            compared.task,
            correlated.metric,
            correlated.spearman,
            correlated.spearman_low,
            correlated.spearman_high,
            correlated.level_count,
            correlated.note
        from compared
        inner join headline_correlations as correlated on compared.run_id = correlated.run_id
        where correlated.scope = 'all'
        order by compared.task, correlated.metric
        """,
        run_id=run_id,
    )


def pareto_points(run_id: str, metric: str) -> BoundQuery:
    """strategy x level x metric (accuracy and one more): cost, value, and whether it is dominated.

    It covers all strategies of the run's model, revision and task: for its own strategy the run
    itself, for each other strategy the latest run. Only these runs can dominate.
    """
    return BoundQuery(
        """
        with compared as (
            select runs.run_id
            from runs
            inner join runs as subject
                on
                    runs.model = subject.model
                    and runs.revision = subject.revision
                    and runs.task = subject.task
                    and coalesce(runs.unit = 'expert', false)
                    = coalesce(subject.unit = 'expert', false)
            where subject.run_id = $run_id
            qualify row_number() over (
                partition by runs.strategy
                order by runs.run_id = $run_id desc, runs.created_at desc, runs.run_id
            ) = 1
        )

        select
            strategy,
            level,
            layer_count,
            1 - removed_share as remaining_share,
            metric,
            value,
            ci_low,
            ci_high,
            verdict,
            is_undominated
        from pareto_among(run_ids := (select list(run_id) from compared))
        where metric in ('accuracy', $metric)
        order by run_id != $run_id, strategy, metric, level
        """,
        run_id=run_id,
        metric=metric,
    )


def candidate_sizes(run_id: str, metric: str) -> BoundQuery:
    """level x metric (accuracy and one more) of a comparison: size and value with its interval.

    weight_bytes is the size of the weights in their number format; null if it is unknown.
    """
    return BoundQuery(
        """
        select
            levels.level,
            levels.weight_bytes,
            shown.metric,
            shown.value,
            shown.ci_low,
            shown.ci_high,
            shown.verdict
        from headline_metrics as shown
        inner join levels on shown.run_id = levels.run_id and shown.level = levels.level
        where
            shown.run_id = $run_id
            and shown.metric in ('accuracy', $metric)
            and shown.value is not null
        order by shown.metric, levels.level
        """,
        run_id=run_id,
        metric=metric,
    )
