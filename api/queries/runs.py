"""One function a chart or table: SQL over the lake's views; no HTTP, no drawing.

A run may hold several explanations. Shown is the one of the view `headlines`.
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


def all_runs(run_ids: Sequence[str] | None = None) -> BoundQuery:
    """The rows of `all_runs`, or those of `run_ids`; runs of one model and order stand together."""
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
    """`method`, `operator` and `variant` of a run that are shown; no row where none is explained.

    Null is what a published table does not tell.
    """
    return BoundQuery(
        "select method, operator, variant from headlines where run_id = $run_id",
        run_id=run_id,
    )


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


def guessing_accuracy(run_id: str) -> BoundQuery:
    """One row: `uniform`, the accuracy of drawing an option; `majority`, of the commonest gold."""
    return BoundQuery(
        """
        with unpruned as (
            select
                gold,
                len(option_log_likelihoods) as option_count,
                count(*) over (partition by gold) as equal_gold
            from predictions
            where run_id = $run_id and level = 0
        )
        select
            avg(1 / option_count) as uniform,
            max(equal_gold) / count(*) as majority
        from unpruned
        """,
        run_id=run_id,
    )


def _join_condition(other: str) -> str:
    names = ("run_id", "level", "metric", "method", "operator", "variant")
    return " and ".join(f"d.{name} is not distinct from {other}.{name}" for name in names)


def matching_runs(
    run_id: str | None, model: str | None, task: str | None, strategy: str | None
) -> BoundQuery:
    """The rows of `all_runs` that fit all that is given, the latest first.

    A model fits by its whole reference or by the last part of it.
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
                or regexp_extract(rtrim(model, '/'), '[^/:]+$') = $model
            )
            and ($task is null or task = $task)
            and ($strategy is null or strategy = $strategy)
        order by created_at desc, run_id
        """,
        run_id=run_id,
        model=model,
        task=task,
        strategy=strategy,
    )


def run_labels() -> BoundQuery:
    """name: model, task, strategy and id of each run, at most 50."""
    return BoundQuery(
        """
        select format('{}, {}, {}, {}', model, task, strategy, run_id) as name
        from runs
        order by model, task, strategy, run_id
        limit 50
        """
    )


def model_runs() -> BoundQuery:
    """The runs of every model, the latest first, and the method of each one's headline."""
    return BoundQuery(
        """
        select
            runs.run_id,
            runs.model,
            runs.revision,
            runs.architecture,
            runs.layer_count,
            runs.task,
            runs.strategy,
            runs.levels,
            runs.example_count,
            headlines.method as explained_by,
            runs.dtype,
            runs.created_at
        from runs
        left join headlines on runs.run_id = headlines.run_id
        order by runs.model, runs.revision, runs.created_at desc, runs.run_id
        """
    )


def totals_by_task() -> BoundQuery:
    """By model and task: runs, examples, forward_tokens, unanalysed, hidden_degradations."""
    return BoundQuery(
        """
        with hidden as (
            select run_id, count(*) as found
            from verdicts
            where verdict = 'hidden degradation'
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
        """
    )
