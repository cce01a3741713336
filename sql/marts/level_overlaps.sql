create view level_overlaps as
with seeds_averaged as (
    select
        run_id,
        model,
        strategy,
        task,
        method,
        level,
        other_level,
        example_id,
        avg(overlap_5) as overlap_5,
        avg(overlap_10) as overlap_10,
        avg(overlap_20) as overlap_20,
        avg(spearman) as spearman
    from attribution_pairs
    where seed = other_seed
    group by run_id, model, strategy, task, method, level, other_level, example_id
),

examples_averaged as (
    select
        run_id,
        model,
        strategy,
        task,
        method,
        level,
        other_level,
        avg(overlap_5) as overlap_5,
        avg(overlap_10) as overlap_10,
        avg(overlap_20) as overlap_20,
        avg(spearman) as spearman,
        count(*) as n
    from seeds_averaged
    group by run_id, model, strategy, task, method, level, other_level
)

select
    run_id,
    model,
    strategy,
    task,
    method,
    unnest(case when level = other_level then [level] else [level, other_level] end) as level,
    unnest(case when level = other_level then [level] else [other_level, level] end) as other_level,
    overlap_5,
    overlap_10,
    overlap_20,
    spearman,
    n
from examples_averaged;

comment on view level_overlaps is
'run x method x level x other level. Mean agreement between two levels under the same seed, over n
examples; seeds are averaged (see attribution_pairs). The matrix is symmetric.';
