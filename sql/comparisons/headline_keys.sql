create view headline_keys as
select distinct
    metrics.run_id,
    metrics.metric,
    metrics.method,
    metrics.operator,
    metrics.variant
from metrics
left join headlines on metrics.run_id = headlines.run_id
where
    (
        metrics.method is null
        or metrics.method = headlines.method
        -- Agreement: the method of headlines may have none.
        or (metrics.operator is null and metrics.variant is null and metrics.method != 'random')
    )
    and (metrics.operator is null or metrics.operator = headlines.operator)
    and (metrics.variant is null or metrics.variant = headlines.variant)
-- A published table may give a metric both with and without a method; the row with it counts.
qualify
    rank() over (
        partition by metrics.run_id, metrics.metric
        order by
            metrics.method is null,
            metrics.method is distinct from headlines.method,
            metrics.method,
            metrics.operator is null,
            metrics.variant is null
    ) = 1;

comment on view headline_keys is
'run x metric. The method, operator and variant of the row that represents a metric if only one
value is shown. Metrics of explanations take them from headlines; for other metrics they are null.
If the method of headlines has no agreement, the first method with agreement is taken.';
