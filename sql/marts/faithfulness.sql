create view faithfulness as
with examples_averaged as (
    select
        run_id,
        level,
        method,
        operator,
        kind,
        variant,
        avg(value) as value,
        count(value) as n
    from example_faithfulness
    group by run_id, level, method, operator, kind, variant
),

beside_random as (
    select
        run_id,
        level,
        method,
        operator,
        kind,
        variant,
        value,
        max(value) filter (where method = 'random') over (
            partition by run_id, level, operator, kind, variant
        ) as random_value,
        n
    from examples_averaged
)

select
    run_id,
    level,
    method,
    operator,
    kind,
    variant,
    value,
    random_value,
    case
        when method = 'random' then null
        when kind = 'comprehensiveness' then value - random_value
        when kind = 'sufficiency' then random_value - value
    end as advantage,
    n
from beside_random;

comment on view faithfulness is
'run x level x method x operator x kind x variant. The mean aopc over n examples; seeds are
averaged. advantage: its gain over the aopc of the random ranking (higher comprehensiveness and
lower sufficiency are better).';
