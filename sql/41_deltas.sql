create view deltas as
with beside_unpruned as (
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
        max(value) filter (where level = 0) over (
            partition by run_id, metric, method, operator, variant
        ) as unpruned_value,
        value,
        n,
        higher_is_better
    from metrics
)

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
    unpruned_value,
    value,
    value - unpruned_value as delta,
    case
        when higher_is_better then value < unpruned_value
        when not higher_is_better then value > unpruned_value
    end as is_worse,
    n
from beside_unpruned;

comment on view deltas is
'run x level x metric (x method, operator, variant). Each metric beside its value at level 0;
is_worse is null where neither direction is better or a value is missing.';
