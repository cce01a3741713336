"""Queries for the metrics of runs and for their correlations with accuracy.

A run may hold several explanations. These queries read the one that the view `headlines` names.
"""

from collections.abc import Sequence

from prunelake.lake.bound_query import BoundQuery

# Restricts d (deltas or correlations) to rows of its run's headline h, or of no explanation at all.
IS_HEADLINE = """
    (d.method is null or d.method is not distinct from h.method)
    and (d.operator is null or d.operator is not distinct from h.operator)
    and (d.variant is null or d.variant is not distinct from h.variant)
"""


# A table may tell a metric of one method and, beside it, of none.
IS_FIRST = "rank() over (partition by d.run_id, d.metric order by d.method is null) = 1"


def headline_metrics(run_ids: Sequence[str]) -> BoundQuery:
    """run_id x level x metric: value with interval, change, verdict, and random_value to beat.

    The verdict is that of the view, but `worse` where the metric is worse and accuracy neither
    stable nor fallen. equivalence_low and equivalence_high are the 90 % interval of the change.
    """
    return BoundQuery(
        f"""
        select
            d.run_id,
            d.level,
            d.metric,
            m.value,
            m.ci_low,
            m.ci_high,
            m.n,
            d.delta,
            d.delta_low,
            d.delta_high,
            d.equivalence_low,
            d.equivalence_high,
            v.p_adjusted,
            case when starts_with(v.reason, 'worse') then 'worse' else v.verdict end as verdict,
            v.smallest_detectable,
            m.note,
            random.value as random_value
        from deltas as d
        left join headlines as h on d.run_id = h.run_id
        left join metrics as m on {_join_condition("m")}
        left join verdicts as v on {_join_condition("v")}
        left join metrics as random
            on
                random.method = 'random'
                and random.run_id = d.run_id
                and random.level = d.level
                and random.metric = d.metric
                and random.operator is not distinct from d.operator
                and random.variant is not distinct from d.variant
        where list_contains($run_ids, d.run_id) and {IS_HEADLINE}
        qualify {IS_FIRST}
        order by d.run_id, d.metric, d.level
        """,
        run_ids=list(run_ids),
    )


def correlations(run_id: str) -> BoundQuery:
    """metric x scope: each correlation with accuracy and its interval, level_count and a note.

    The strongest Spearman correlations over all levels come first; scopes of a metric together.
    """
    kinds = ("pearson", "spearman", "kendall", "partial")
    columns = ", ".join(f"d.{kind}, d.{kind}_low, d.{kind}_high" for kind in kinds)
    return BoundQuery(
        f"""
        select d.metric, d.scope, {columns}, d.level_count, d.note
        from correlations as d
        left join headlines as h on d.run_id = h.run_id
        where d.run_id = $run_id and {IS_HEADLINE}
        qualify {IS_FIRST}
        order by
            max(abs(d.spearman)) filter (where d.scope = 'all') over (partition by d.metric)
                desc nulls last,
            d.metric,
            d.scope
        """,
        run_id=run_id,
    )


def pooled_correlations() -> BoundQuery:
    """Rows of `pooled_correlations` over several runs, of the explanations that headline any."""
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
            and (method is null or method in (select method from headlines))
            and (operator is null or operator in (select operator from headlines))
            and (variant is null or variant in (select variant from headlines))
        order by strategy, metric, method nulls first, operator nulls first, variant nulls first
        """,
    )


def _join_condition(other: str) -> str:
    names = ("run_id", "level", "metric", "method", "operator", "variant")
    return " and ".join(f"d.{name} is not distinct from {other}.{name}" for name in names)
