create view paired_attributions as
select
    run_id,
    model,
    strategy,
    task,
    level,
    example_id,
    method,
    seed,
    token_count,
    overlap_5,
    overlap_10,
    overlap_20,
    spearman
from attribution_pairs
where other_level = 0 and other_seed = seed;

comment on view paired_attributions is
'run x level x example x method x seed. Agreement with the attribution of level 0 under the same
seed, from attribution_pairs. The random ranking is left out: it is the same at all levels.';
