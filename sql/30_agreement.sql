create view agreement as
with seeds_averaged as (
    select
        run_id,
        level,
        example_id,
        method,
        avg(overlap_5) as overlap_5,
        avg(overlap_10) as overlap_10,
        avg(overlap_20) as overlap_20,
        avg(spearman) as spearman
    from paired_attributions
    group by run_id, level, example_id, method
),

examples_averaged as (
    select
        run_id,
        level,
        method,
        avg(overlap_5) as overlap_5,
        avg(overlap_10) as overlap_10,
        avg(overlap_20) as overlap_20,
        avg(spearman) as spearman,
        count(*) as n
    from seeds_averaged
    group by run_id, level, method
),

explained as (
    select distinct
        run_id,
        level,
        method
    from attributions
    -- The random ranking is one and the same at all levels.
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
'run x level x method. Mean over examples of the seed-averaged agreement with level 0 (see
paired_attributions); without the random ranking, which is the same at all levels.';
