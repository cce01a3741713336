create view example_agreement as
select
    run_id,
    model,
    strategy,
    task,
    level,
    example_id,
    method,
    avg(overlap_5) filter (where other_level = 0 and other_seed = seed) as overlap_5,
    avg(overlap_10) filter (where other_level = 0 and other_seed = seed) as overlap_10,
    avg(overlap_20) filter (where other_level = 0 and other_seed = seed) as overlap_20,
    avg(spearman) filter (where other_level = 0 and other_seed = seed) as spearman,
    -- A pair of seeds of level 0 has one row for its two orders, whose agreement is equal.
    avg(overlap_10) filter (where other_level = 0 and other_seed != seed) as cross_overlap_10,
    avg(spearman) filter (where other_level = 0 and other_seed != seed) as cross_spearman,
    avg(overlap_10) filter (where other_level = level and other_seed != seed) as seed_overlap_10,
    avg(spearman) filter (where other_level = level and other_seed != seed) as seed_spearman
from attribution_pairs
where other_level = 0 or other_level = level
group by run_id, model, strategy, task, level, example_id, method;

comment on view example_agreement is
'run x level x example x method. Means over seeds of attribution_pairs: with level 0 under the
same seed (overlap_5, overlap_10, overlap_20, spearman), with level 0 under another seed (cross_),
and between different seeds of the same level (seed_). Null if there is no such pair.';
