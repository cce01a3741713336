create view pooled_correlations as
with calibrated as (
    select distinct calibrator
    from lake.calibrators
),

sized as (
    select
        metrics.*,
        runs.revision,
        runs.dtype,
        runs.removal_order,
        runs.created_at,
        max(metrics.n) over (
            partition by
                metrics.run_id, metrics.metric, metrics.method, metrics.operator, metrics.variant
        ) as largest_n
    from metrics
    inner join runs on metrics.run_id = runs.run_id
    -- Candidates have no order, so nothing is correlated over them.
    where
        metrics.run_id not in (
            select named.run_id
            from lake.levels as named
        )
),

-- A run that has grown shares its examples with the smaller runs, so only the largest one counts.
largest as (
    select *
    from sized
    qualify
        dense_rank() over (
            partition by
                model,
                revision,
                task,
                dtype,
                strategy,
                removal_order,
                metric,
                method,
                operator,
                variant
            order by largest_n desc nulls last, created_at desc, run_id asc
        ) = 1
),

paired as (
    select
        metrics.run_id,
        metrics.strategy,
        metrics.metric,
        metrics.method,
        metrics.operator,
        metrics.variant,
        metrics.value,
        accuracies.value as accuracy,
        count(*) over within_run as level_count,
        accuracies.value - avg(accuracies.value) over within_run as accuracy_within,
        metrics.value - avg(metrics.value) over within_run as value_within
    from largest as metrics
    inner join metrics as accuracies
        on metrics.run_id = accuracies.run_id and metrics.level = accuracies.level
    where
        accuracies.metric = 'accuracy'
        and metrics.metric != 'accuracy'
        -- A recalibrated metric does not count as another metric.
        and not exists (
            select 1
            from calibrated
            where metrics.variant = calibrated.calibrator
        )
        and metrics.value is not null
        and accuracies.value is not null
    window
        within_run as (
            partition by
                metrics.run_id, metrics.metric, metrics.method, metrics.operator, metrics.variant
        )
),

pooled as (
    select
        strategy,
        metric,
        method,
        operator,
        variant,
        count(distinct run_id) as run_count,
        count(*) as point_count,
        -- Bakdash and Marusich (2017): each run has its own intercept, all runs share one slope.
        count(*) - count(distinct run_id) - 1 as degrees_of_freedom,
        max(abs(accuracy_within)) < 1e-12 as is_accuracy_constant,
        max(abs(value_within)) < 1e-12 as is_value_constant,
        corr(accuracy_within, value_within) as within_runs,
        corr(accuracy, value) as pooled_pearson
    from paired
    where level_count >= 2
    group by strategy, metric, method, operator, variant
),

explained as (
    select
        *,
        case
            when run_count < 2 then 'fewer than 2 runs'
            when degrees_of_freedom < 2 then 'fewer than 2 degrees of freedom'
            when is_accuracy_constant then 'constant accuracy'
            when is_value_constant then 'constant metric'
        end as note
    from pooled
),

known as (
    select
        strategy,
        metric,
        method,
        operator,
        variant,
        run_count,
        point_count,
        degrees_of_freedom,
        case when note is null then greatest(-1, least(1, within_runs)) end as repeated_measures,
        case when note is null then greatest(-1, least(1, pooled_pearson)) end as pooled_pearson,
        note
    from explained
)

select
    strategy,
    metric,
    method,
    operator,
    variant,
    repeated_measures,
    -- Fisher's z has the variance 1 / (degrees of freedom - 1). The factor is 1.96 in full.
    tanh(
        atanh(repeated_measures) - 1.959963984540054 / sqrt(degrees_of_freedom - 1)
    ) as repeated_measures_low,
    tanh(
        atanh(repeated_measures) + 1.959963984540054 / sqrt(degrees_of_freedom - 1)
    ) as repeated_measures_high,
    pooled_pearson,
    sign(pooled_pearson) != sign(repeated_measures) as is_simpson,
    run_count,
    point_count,
    degrees_of_freedom,
    note
from known;

comment on view pooled_correlations is
'strategy x metric (x method, operator, variant). Correlation of accuracy with each other metric
over all levels of all runs (models x tasks). If one model, task and removal order has several
runs, the run with the most examples counts. repeated_measures: the correlation within runs, each
with its own mean; its interval treats the levels as independent. pooled_pearson ignores the runs.
is_simpson: both correlations have different signs, so pooled_pearson is misleading.';
