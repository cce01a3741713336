create view correlations as
with rounded as (
    select
        run_id,
        model,
        strategy,
        task,
        level,
        metric,
        method,
        operator,
        variant,
        -- The last bits of a mean depend on the order of its sum and must not make ranks.
        round(value, 12) as value
    from metrics
),

series as (
    select
        dense_rank() over (
            order by
                metrics.run_id,
                metrics.metric,
                metrics.method,
                metrics.operator,
                metrics.variant
        ) as series,
        metrics.run_id,
        metrics.model,
        metrics.strategy,
        metrics.task,
        metrics.level,
        metrics.metric,
        metrics.method,
        metrics.operator,
        metrics.variant,
        metrics.value,
        accuracies.value as accuracy
    from rounded as metrics
    inner join rounded as accuracies
        on metrics.run_id = accuracies.run_id and metrics.level = accuracies.level
    where accuracies.metric = 'accuracy' and metrics.metric != 'accuracy'
),

ranked as (
    select
        series,
        level,
        accuracy,
        value,
        rank() over by_accuracy + (
            count(*) over (by_accuracy range between current row and current row) - 1
        ) / 2 as accuracy_rank,
        rank() over by_value + (
            count(*) over (by_value range between current row and current row) - 1
        ) / 2 as value_rank
    from series
    where accuracy is not null and value is not null
    window
        by_accuracy as (partition by series order by accuracy),
        by_value as (partition by series order by value)
),

summarised as (
    select
        series,
        count(*) as level_count,
        min(accuracy) = max(accuracy) as is_accuracy_constant,
        min(value) = max(value) as is_value_constant,
        corr(accuracy, value) as pearson,
        corr(accuracy_rank, value_rank) as spearman
    from ranked
    group by series
),

concordance as (
    select
        one.series,
        sum(sign(one.accuracy - other.accuracy) * sign(one.value - other.value)) as agreeing,
        count(*) filter (where one.accuracy != other.accuracy) as untied_in_accuracy,
        count(*) filter (where one.value != other.value) as untied_in_value
    from ranked as one
    inner join ranked as other on one.series = other.series and one.level < other.level
    group by one.series
),

names as (
    select distinct
        series,
        run_id,
        model,
        strategy,
        task,
        metric,
        method,
        operator,
        variant
    from series
),

explained as (
    select
        names.run_id,
        names.model,
        names.strategy,
        names.task,
        names.metric,
        names.method,
        names.operator,
        names.variant,
        summarised.pearson,
        summarised.spearman,
        -- tau-b: the product of the untied counts is positive unless one side is constant.
        concordance.agreeing
        / sqrt(
            nullif(concordance.untied_in_accuracy * concordance.untied_in_value, 0)
        ) as kendall,
        coalesce(summarised.level_count, 0) as level_count,
        case
            when coalesce(summarised.level_count, 0) < 3 then 'fewer than 3 levels'
            when summarised.is_accuracy_constant then 'constant accuracy'
            when summarised.is_value_constant then 'constant metric'
        end as note
    from names
    left join summarised on names.series = summarised.series
    left join concordance on names.series = concordance.series
)

select
    run_id,
    model,
    strategy,
    task,
    metric,
    method,
    operator,
    variant,
    'all' as scope,
    case when note is null then greatest(-1, least(1, pearson)) end as pearson,
    case when note is null then greatest(-1, least(1, spearman)) end as spearman,
    case when note is null then greatest(-1, least(1, kendall)) end as kendall,
    level_count,
    note
from explained;

comment on view correlations is
'run x metric (x method, operator, variant) x scope. Correlation of accuracy with each other metric
across the levels that have both: Pearson, Spearman (average ranks), Kendall tau-b; note says why
they are null.';
