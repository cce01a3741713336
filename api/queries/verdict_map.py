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
        order by run_id, level
        """,
        metrics=list(metrics),
    )
