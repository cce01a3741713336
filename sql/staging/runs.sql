create view runs as
select
    run_id,
    created_at,
    model,
    regexp_extract(rtrim(model, '/'), '[^/:]+$') as model_name,
    revision,
    architecture,
    strategy,
    case
        when strategy = 'comparison' then null
        when
            split_part(strategy, ':', 1)
            in ('mlp', 'block', 'linear_attention', 'state_space', 'expert')
            then split_part(strategy, ':', 1)
        else 'attention'
    end as unit,
    task,
    split,
    example_count,
    levels,
    layer_count,
    removal_order,
    dtype,
    device,
    code_version,
    spec,
    identity,
    duration_s,
    forward_tokens
from lake.runs;

comment on view runs is
'run: one complete sweep, comparison or import on one task. run_id is the hash of identity.
model_name: the last part of the reference model. unit: the part that a level removes from its
layers, as attention, mlp or block; null for a comparison, whose levels are models (see levels).';
