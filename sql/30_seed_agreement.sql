create view seed_agreement as
with examples_averaged as (
    select
        run_id,
        level,
        method,
        avg(seed_overlap_10) as overlap_10,
        avg(seed_spearman) as spearman,
        count(seed_overlap_10) as n
    from example_agreement
    group by run_id, level, method
),

explained as (
    select distinct
        run_id,
        level,
        method
    from attributions
    where method != 'random'
)

select
    explained.run_id,
    explained.level,
    explained.method,
    examples_averaged.overlap_10,
    examples_averaged.spearman,
    coalesce(examples_averaged.n, 0) as n
from explained
left join examples_averaged
    on
        explained.run_id = examples_averaged.run_id
        and explained.level = examples_averaged.level
        and explained.method = examples_averaged.method;

comment on view seed_agreement is
'run x level x method. How far a method agrees with itself: mean over n examples of the agreement
between its different seeds at one level, seeds averaged; null where there is one seed.';
