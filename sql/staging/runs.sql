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
        when split_part(strategy, ':', 1) in ('mlp', 'block') then split_part(strategy, ':', 1)
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
model_name: the last part of the reference model. unit: the part that a level removes from each of
its layers: attention, mlp, or block (both).';
