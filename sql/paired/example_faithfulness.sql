create view example_faithfulness as
with seeds_averaged as (
    select
        run_id,
        model,
        strategy,
        task,
        level,
        example_id,
        method,
        operator,
        variant,
        kind,
        avg(value) as value
    from aopc
    group by
        run_id, model, strategy, task, level, example_id, method, operator, variant, kind
),

-- Lists are unnested, not joined with themselves, so that filters by run reach the files.
rankings as (
    select
        run_id,
        model,
        strategy,
        task,
        level,
        example_id,
        operator,
        variant,
        kind,
        max(value) filter (where method = 'random') as random_value,
        -- Both lists have the rows in the same order.
        list(method) as methods,
        list(value) as values_of_methods
    from seeds_averaged
    group by run_id, model, strategy, task, level, example_id, operator, variant, kind
)

select
    run_id,
    model,
    strategy,
    task,
    level,
    example_id,
    operator,
    variant,
    kind,
    random_value,
    unnest(methods) as method,
    unnest(values_of_methods) as value
from rankings;

comment on view example_faithfulness is
'run x level x example x operator x variant x kind x method. The aopc of an example; seeds are
averaged. random_value: the aopc of the random ranking of the same example. A published snapshot
stores these.';
