"""Queries for the metrics of runs and for their correlations with accuracy.

A run may hold several explanations. These queries read its headline explanation, which the view
`headline_keys` names.
"""

from collections.abc import Sequence

from prunelake.lake.sql.bound_query import BoundQuery


def headline_metrics(run_ids: Sequence[str]) -> BoundQuery:
    """run_id x level x metric: value with interval, change, verdict, and value of a random ranking.

    label and kind are those of the view levels. The verdict comes from the view verdicts, except
    `worse` where the metric is worse while accuracy is inconclusive. equivalence_low and
    equivalence_high are the 90 % interval of the change.
    """
    return BoundQuery(
        """
        select
            shown.run_id,
            shown.level,
            shown.label,
            levels.kind,
            shown.metric,
            shown.value,
            shown.ci_low,
            shown.ci_high,
            shown.n,
            shown.delta,
            shown.delta_low,
            shown.delta_high,
            shown.equivalence_low,
            shown.equivalence_high,
            shown.p_adjusted,
            shown.shown_verdict as verdict,
            shown.smallest_detectable,
            shown.n_needed,
            shown.note,
            shown.random_value
        from headline_metrics as shown
        inner join levels on shown.run_id = levels.run_id and shown.level = levels.level
        where list_contains($run_ids, shown.run_id)
        order by shown.run_id, shown.metric, shown.level
        """,
        run_ids=list(run_ids),
    )


def correlations(run_id: str) -> BoundQuery:
    """metric x scope: each correlation with accuracy and its interval, level_count and a note.

    Metrics with the strongest Spearman correlation over all levels come first.
    """
    return BoundQuery(
        """
        with ranked as (
            select
                *,
                max(abs(spearman)) filter (where scope = 'all') over (partition by metric)
                    as strongest
            from headline_correlations
            where run_id = $run_id
        )

        select
            metric,
            scope,
            pearson,
            pearson_low,
            pearson_high,
            spearman,
            spearman_low,
            spearman_high,
            kendall,
            kendall_low,
            kendall_high,
            partial,
            partial_low,
            partial_high,
            level_count,
            note
        from ranked
        order by strongest desc nulls last, metric, scope
        """,
        run_id=run_id,
    )


def pooled_correlations() -> BoundQuery:
    """Rows of `pooled_correlations` over several runs, for their headline explanations."""
    return BoundQuery(
        """
        select
            strategy,
            metric,
            method,
            operator,
            variant,
            repeated_measures,
            repeated_measures_low,
            repeated_measures_high,
            pooled_pearson,
            is_simpson,
            run_count,
            point_count
        from pooled_correlations
        where
            note is null
            and exists (
                select 1
                from headline_keys as keys
                where
                    pooled_correlations.metric = keys.metric
                    and pooled_correlations.method is not distinct from keys.method
                    and pooled_correlations.operator is not distinct from keys.operator
                    and pooled_correlations.variant is not distinct from keys.variant
            )
        order by strategy, metric, method nulls first, operator nulls first, variant nulls first
        """,
    )
