"""The query for the map of verdicts: every level of every run, by its worst verdict."""

from collections.abc import Sequence

from prunelake.lake.sql.bound_query import BoundQuery


def level_verdicts(metrics: Sequence[str]) -> BoundQuery:
    """run x level above 0: the verdict on accuracy, and the metrics with each kind of loss.

    Only `metrics` count. `accuracy` is null if a table was published without examples. `n` is the
    number of examples behind it, and `n_needed` the number that would decide it, if it is open.
    """
    return BoundQuery(
        """
        with judged as (
            select
                verdicts.run_id,
                verdicts.level,
                verdicts.metric,
                verdicts.n,
                verdicts.n_needed,
                if(
                    verdicts.verdict = 'inconclusive' and verdicts.is_shown_worse,
                    'worse',
                    verdicts.verdict
                ) as verdict
            from verdicts
            inner join headline_keys as keys
                on
                    verdicts.run_id = keys.run_id
                    and verdicts.metric = keys.metric
                    and verdicts.method is not distinct from keys.method
                    and verdicts.operator is not distinct from keys.operator
                    and verdicts.variant is not distinct from keys.variant
            where list_contains($metrics, verdicts.metric)
        )

        select
            run_id,
            level,
            any_value(verdict) filter (where metric = 'accuracy') as accuracy,
            any_value(n) filter (where metric = 'accuracy') as n,
            any_value(n_needed) filter (where metric = 'accuracy') as n_needed,
            coalesce(list(metric) filter (where verdict = 'hidden degradation'), []) as hidden,
            coalesce(list(metric) filter (where verdict = 'worse'), []) as worse
        from judged
        group by run_id, level
        order by run_id, level
        """,
        metrics=list(metrics),
    )
