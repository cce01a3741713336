create view efficiency as
-- A profile applies to a run if both remove the same layers at each of their common levels.
with fitting as (
    select
        runs.run_id,
        profiles.profile_id,
        any_value(profiles.device_name) as device,
        any_value(profiles.created_at) as created_at,
        count(*) as shared_levels
    from runs
    inner join profiles
        on
            runs.revision = profiles.revision
            and runs.strategy = profiles.strategy
            and runs.dtype = profiles.dtype
    inner join lake.efficiency as measured
        on
            profiles.profile_id = measured.profile_id
            and list_contains(runs.levels, measured.level)
    group by runs.run_id, profiles.profile_id
    having
        bool_and(
            list_sort(list_slice(runs.removal_order, 1, measured.level * runs.parts_per_level))
            = list_sort(
                list_slice(profiles.removal_order, 1, measured.level * runs.parts_per_level)
            )
        )
),

-- If a device has several profiles, the profile with the most levels of the run counts, then the
-- latest.
chosen as (
    select
        run_id,
        profile_id
    from fitting
    qualify
        row_number() over (
            partition by run_id, device
            order by shared_levels desc, created_at desc, profile_id asc
        ) = 1
)

select
    runs.run_id,
    runs.model,
    runs.revision,
    runs.strategy,
    runs.task,
    costs.level,
    costs.device,
    runs.dtype,
    costs.profile_id,
    costs.created_at as profiled_at,
    costs.parameter_count,
    costs.weight_bytes,
    costs.kv_bytes_per_token,
    costs.prefill_tokens_per_second,
    costs.prefill_tokens_per_second_low,
    costs.prefill_tokens_per_second_high,
    costs.decode_tokens_per_second,
    costs.decode_tokens_per_second_low,
    costs.decode_tokens_per_second_high,
    costs.peak_bytes,
    costs.prefill_speedup,
    costs.prefill_speedup_low,
    costs.prefill_speedup_high,
    costs.decode_speedup,
    costs.decode_speedup_low,
    costs.decode_speedup_high,
    costs.parameter_share,
    costs.weight_share,
    costs.kv_share,
    costs.memory_share
from chosen
inner join runs on chosen.run_id = runs.run_id
inner join costs
    on
        chosen.profile_id = costs.profile_id
        and list_contains(runs.levels, costs.level);

comment on view efficiency is
'run x level x device, for runs whose levels were profiled. The costs come from a profile with the
same revision, strategy, number format and removed layers: tokens per second of prefill and
decoding, bytes of weights, cache and peak memory, and their ratios to level 0 of the same profile
(see costs).';
