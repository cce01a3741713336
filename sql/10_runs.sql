create view runs as
select
    run_id,
    created_at,
    model,
    revision,
    architecture,
    strategy,
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
'run: one complete sweep of one model on one task. run_id is the hash of identity.';
