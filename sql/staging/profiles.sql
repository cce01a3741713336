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
'profile: one measurement, by prunelake profile, of the costs of the levels of a removal order on
one device. device: the name in torch; device_name: the product name, and for a CPU also the number
of threads. load_average: the mean number of processes that wanted a core in the minute before.
Numbers from a busy machine are worthless.';
