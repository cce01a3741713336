"""The query for the map of verdicts: every run, with its levels by their worst verdicts."""

from collections.abc import Sequence

from prunelake.lake.sql.bound_query import BoundQuery


def run_verdicts(metrics: Sequence[str]) -> BoundQuery:
    """One row for each run with a level above 0, the latest first.

    Only `metrics` count. `levels` are the levels above 0 with a verdict on accuracy, or of a
    published table, and `verdicts` the worst verdict on each: null if it was published without
    examples. `harmless` are the levels without a loss. `hidden` and `worse` are the first level
    with this verdict, and its metrics with it; `worse_accuracy` is the verdict on accuracy there.
    `visible` is the first level where accuracy falls. `cheapest` is the open level that needs the
    fewest examples: `n_needed`, `level`, and `n`, the examples that it has. `all_levels`, and for a
    comparison `labels`, belong to all levels of the run.
    """
    return BoundQuery(
        """
        with judged as (
            select
                run_id,
                level,
                any_value(shown_verdict) filter (where metric = 'accuracy') as accuracy,
                any_value(paired_n) filter (where metric = 'accuracy') as n,
                any_value(n_needed) filter (where metric = 'accuracy') as n_needed,
                coalesce(
                    list(metric) filter (where shown_verdict = 'hidden degradation'), []
                ) as hidden,
                coalesce(list(metric) filter (where shown_verdict = 'worse'), []) as worse
            from headline_metrics
            where is_judged and list_contains($metrics, metric)
            group by run_id, level
        ),

        decided as (
            select
                *,
                case
                    when accuracy is null then null
                    when len(hidden) > 0 then 'hidden degradation'
                    when accuracy = 'visible degradation' then accuracy
                    when len(worse) > 0 then 'worse'
                    else accuracy
                end as verdict
            from judged
        ),

        by_run as (
            select
                run_id,
                list(level order by level) as levels,
                list(verdict order by level) as verdicts,
                coalesce(
                    list(level order by level) filter (
                        where verdict in ('equivalent', 'improved')
                    ),
                    []
                ) as harmless,
                min({'level': level, 'metrics': hidden}) filter (
                    where verdict = 'hidden degradation'
                ) as hidden,
                min({'level': level, 'metrics': worse, 'accuracy': accuracy}) filter (
                    where verdict = 'worse'
                ) as worse,
                min(level) filter (where verdict = 'visible degradation') as visible,
                min({'n_needed': n_needed, 'level': level, 'n': n}) filter (
                    where n_needed is not null
                ) as cheapest
            from decided
            group by run_id
        ),

        candidates as (
            select
                run_id,
                list(label order by level) as labels
            from levels
            where kind = 'candidate'
            group by run_id
        )

        select
            by_run.*,
            runs.levels as all_levels,
            candidates.labels
        from by_run
        inner join runs on by_run.run_id = runs.run_id
        left join candidates on by_run.run_id = candidates.run_id
        order by runs.created_at desc, by_run.run_id
        """,
        metrics=list(metrics),
    )
