create view profiles as
select
    profile_id,
    created_at,
    model,
    revision,
    architecture,
    strategy,
    layer_count,
    removal_order,
    levels,
    dtype,
    device,
    device_name,
    threads,
    load_average,
    torch_version,
    code_version,
    batch,
    prompt_tokens,
    new_tokens,
    repeats
from lake.profiles;

comment on view profiles is
'profile: one measurement, by prunelake profile, of what the levels of a removal order cost on a
device. device is as torch names it, device_name what it is, of a CPU with the threads that computed.
load_average is how many processes wanted a core over the minute before: numbers of a busy machine
are worthless.';
