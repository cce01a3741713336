create view agreement as
with examples_averaged as (
    select
        run_id,
        level,
        method,
        avg(overlap_5) as overlap_5,
        avg(overlap_10) as overlap_10,
        avg(overlap_20) as overlap_20,
        avg(spearman) as spearman,
        count(overlap_10) as n
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
    examples_averaged.overlap_5,
    examples_averaged.overlap_10,
    examples_averaged.overlap_20,
    examples_averaged.spearman,
    coalesce(examples_averaged.n, 0) as n
from explained
left join examples_averaged
    on
        explained.run_id = examples_averaged.run_id
        and explained.level = examples_averaged.level
        and explained.method = examples_averaged.method;

comment on view agreement is
'run x level x method. Mean over n examples of the agreement with level 0 under the same seed, seeds
averaged (see example_agreement); without the random ranking, which is the same at all levels.';
