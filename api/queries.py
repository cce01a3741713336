"""One function a chart or table: SQL over the lake's views; no HTTP, no drawing.

A run may hold several explanations. Shown is the one of the view `headlines`.
"""

from collections.abc import Sequence

from api.query import Query

# Restricts d (deltas or correlations) to rows of its run's headline h, or of no explanation at all.
IS_HEADLINE = """
    (d.method is null or d.method is not distinct from h.method)
    and (d.operator is null or d.operator is not distinct from h.operator)
    and (d.variant is null or d.variant is not distinct from h.variant)
"""

# A table may tell a metric of one method and, beside it, of none.
IS_FIRST = "rank() over (partition by d.run_id, d.metric order by d.method is null) = 1"


def runs(run_ids: Sequence[str] | None = None) -> Query:
    """The rows of `runs`, or those of `run_ids`; runs of one model and order stand together."""
    return Query(
        """
        select *
        from runs
        where $run_ids is null or list_contains($run_ids, run_id)
        order by model, revision, strategy, removal_order, task, created_at, run_id
        """,
        run_ids=None if run_ids is None else list(run_ids),
    )


def headline(run_id: str) -> Query:
    """`method`, `operator` and `variant` of a run that are shown; no row where none is explained.

    Null is what a published table does not tell.
    """
    return Query(
        "select method, operator, variant from headlines where run_id = $run_id",
        run_id=run_id,
    )


def levels(run_ids: Sequence[str]) -> Query:
    """run_id x level x metric: value with interval, change, verdict, and random_value to beat.

    The verdict is that of the view, but `worse` where the metric is worse and accuracy neither
    stable nor fallen. equivalence_low and equivalence_high are the 90 % interval of the change.
    """
    return Query(
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
        left join metrics as m on {_same_cell("m")}
        left join verdicts as v on {_same_cell("v")}
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


def summary(run_id: str) -> Query:
    """The run's rows of the view `summary`, level 0 first."""
    return Query("select * from summary where run_id = $run_id order by level", run_id=run_id)


def layers(run_id: str) -> Query:
    """layer, importance, rank (0 is removed first), from the input on."""
    return Query(
        "select layer, importance, rank from layers where run_id = $run_id order by layer",
        run_id=run_id,
    )


def correlations(run_id: str) -> Query:
    """metric x scope: each correlation with accuracy and its interval, level_count and a note.

    The strongest Spearman correlations over all levels come first; scopes of a metric together.
    """
    kinds = ("pearson", "spearman", "kendall", "partial")
    columns = ", ".join(f"d.{kind}, d.{kind}_low, d.{kind}_high" for kind in kinds)
    return Query(
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


def path(run_id: str, metric: str) -> Query:
    """level: accuracy and a metric with their intervals, and their correlation over all levels.

    Only levels that have both; the correlation is alike in all rows.
    """
    return Query(
        f"""
        with cells as (
            select d.level, d.metric, d.value, d.ci_low, d.ci_high, d.n
            from metrics as d
            left join headlines as h on d.run_id = h.run_id
            where d.run_id = $run_id and d.metric in ('accuracy', $metric) and {IS_HEADLINE}
            qualify {IS_FIRST}
        ),

        correlated as (
            select d.spearman, d.spearman_low, d.spearman_high, d.level_count, d.note
            from correlations as d
            left join headlines as h on d.run_id = h.run_id
            where
                d.run_id = $run_id and d.metric = $metric and d.scope = 'all' and {IS_HEADLINE}
            qualify {IS_FIRST}
        )

        select
            accuracies.level,
            accuracies.value as accuracy,
            accuracies.ci_low as accuracy_low,
            accuracies.ci_high as accuracy_high,
            accuracies.n as accuracy_n,
            cells.value,
            cells.ci_low,
            cells.ci_high,
            cells.n,
            correlated.*
        from cells as accuracies
        inner join cells on accuracies.level = cells.level and cells.metric = $metric
        left join correlated on true
        where
            accuracies.metric = 'accuracy'
            and accuracies.value is not null
            and cells.value is not null
        order by accuracies.level
        """,
        run_id=run_id,
        metric=metric,
    )


def pooled() -> Query:
    """Rows of `pooled_correlations` over several runs, of the explanations that headline any."""
    return Query(
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


def reliability(run_id: str, level: int) -> Query:
    """The bins of confidence of the unpruned model and of a level."""
    return Query(
        """
        select
            level,
            bin_low,
            bin_high,
            n,
            mean_confidence,
            accuracy
        from reliability
        where run_id = $run_id and level in (0, $level)
        order by level, bin_low
        """,
        run_id=run_id,
        level=level,
    )


def guessing(run_id: str) -> Query:
    """One row: `uniform`, the accuracy of drawing an option; `majority`, of the commonest gold."""
    return Query(
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


def _same_cell(other: str) -> str:
    names = ("run_id", "level", "metric", "method", "operator", "variant")
    return " and ".join(f"d.{name} is not distinct from {other}.{name}" for name in names)


def matching_runs(
    run_id: str | None, model: str | None, task: str | None, strategy: str | None
) -> Query:
    """The rows of `runs` that fit all that is given, the latest first.

    A model fits by its whole reference or by the last part of it.
    """
    return Query(
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


def run_names() -> Query:
    """name: model, task, strategy and id of each run, at most 50."""
    return Query(
        """
        select format('{}, {}, {}, {}', model, task, strategy, run_id) as name
        from runs
        order by model, task, strategy, run_id
        limit 50
        """
    )


def model_runs() -> Query:
    """The runs of every model, the latest first, and the method of each one's headline."""
    return Query(
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


def correlation_matrix(run_id: str) -> Query:
    """task x metric: Spearman correlation with accuracy over all levels, and its interval.

    Over the tasks of the run's model, revision and strategy: of its own task the run itself, of
    another one the latest run.
    """
    return Query(
        f"""
        with alike as (
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
            alike.task,
            d.metric,
            d.spearman,
            d.spearman_low,
            d.spearman_high,
            d.level_count,
            d.note
        from alike
        inner join correlations as d on alike.run_id = d.run_id
        left join headlines as h on d.run_id = h.run_id
        where d.scope = 'all' and {IS_HEADLINE}
        qualify {IS_FIRST}
        order by alike.task, d.metric
        """,
        run_id=run_id,
    )


def overlaps(run_id: str) -> Query:
    """level x other level: share of the top 10 tokens in common, by the method of the headline.

    Beside level 0 with the 95 % interval; seed_overlap is that of two seeds at the level itself,
    null where there is one.
    """
    return Query(
        """
        select
            overlap_matrix.method,
            overlap_matrix.level,
            overlap_matrix.other_level,
            overlap_matrix.overlap_10 as overlap,
            metrics.ci_low,
            metrics.ci_high,
            seed_agreement.overlap_10 as seed_overlap,
            overlap_matrix.n
        from overlap_matrix
        inner join headlines
            on
                overlap_matrix.run_id = headlines.run_id
                and overlap_matrix.method = headlines.method
        left join metrics
            on
                overlap_matrix.run_id = metrics.run_id
                and overlap_matrix.method = metrics.method
                and overlap_matrix.level = metrics.level
                and overlap_matrix.other_level = 0
                and metrics.metric = 'overlap_10'
        left join seed_agreement
            on
                overlap_matrix.run_id = seed_agreement.run_id
                and overlap_matrix.method = seed_agreement.method
                and overlap_matrix.level = seed_agreement.level
        where overlap_matrix.run_id = $run_id
        order by overlap_matrix.level, overlap_matrix.other_level
        """,
        run_id=run_id,
    )


def flips(run_id: str) -> Query:
    """Per level the shares of predictions that differ from level 0; flip_rate with its interval."""
    return Query(
        """
        select
            flips.level,
            flips.harmful_rate,
            flips.beneficial_rate,
            flips.neutral_rate,
            flips.flip_rate,
            metrics.ci_low,
            metrics.ci_high,
            flips.n
        from flips
        left join metrics
            on
                flips.run_id = metrics.run_id
                and flips.level = metrics.level
                and metrics.metric = 'flip_rate'
        where flips.run_id = $run_id
        order by flips.level
        """,
        run_id=run_id,
    )


def pareto(run_id: str, metric: str) -> Query:
    """strategy x level of accuracy and of a metric: what it costs, its value, and what beats it.

    Over the strategies of the run's model, revision and task: of its own strategy the run itself,
    of another one the latest run; no others dominate.
    """
    return Query(
        """
        with alike as (
            select runs.run_id
            from runs
            inner join runs as subject
                on
                    runs.model = subject.model
                    and runs.revision = subject.revision
                    and runs.task = subject.task
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
        from pareto_among(run_ids := (select list(run_id) from alike))
        where metric in ('accuracy', $metric)
        order by run_id != $run_id, strategy, metric, level
        """,
        run_id=run_id,
        metric=metric,
    )
