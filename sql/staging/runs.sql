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
    coalesce(greatest(1, len(removal_order) // nullif(layer_count, 0)), 1) as parts_per_level,
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
model_name: the last part of the reference in model. unit: the part that a level removes from its
layers, such as attention, mlp, block or expert; null for a comparison, whose levels are models (see
levels). layer_count: the number of layers with this unit, or of experts in each block.
removal_order: the layers in the order of their removal; for the unit expert, the experts, numbered
block by block. Level k lacks the first k x parts_per_level of them: k layers, or k experts of each
block.';
