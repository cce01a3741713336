create view costs as
with spans as (
    select
        profile_id,
        level,
        parameter_count,
        weight_bytes,
        kv_bytes_per_token,
        prefill_seconds,
        decode_seconds,
        peak_bytes,
        first_value(parameter_count) over unpruned as unpruned_parameters,
        first_value(weight_bytes) over unpruned as unpruned_weights,
        first_value(kv_bytes_per_token) over unpruned as unpruned_cache,
        first_value(prefill_seconds) over unpruned as unpruned_prefill,
        first_value(decode_seconds) over unpruned as unpruned_decode,
        first_value(peak_bytes) over unpruned as unpruned_peak
    from lake.efficiency
    window
        unpruned as (
            partition by profile_id
            order by level
            rows between unbounded preceding and unbounded following
        )
),

-- Repeat i of all levels ran at about the same time, so that each repeat has its own level 0.
speeds as (
    select
        *,
        list_transform(
            list_zip(unpruned_prefill, prefill_seconds), lambda pair: pair[1] / pair[2]
        ) as prefill_speedups,
        list_transform(
            list_zip(unpruned_decode, decode_seconds), lambda pair: pair[1] / pair[2]
        ) as decode_speedups
    from spans
)

select
    profiles.profile_id,
    profiles.created_at,
    profiles.model,
    profiles.revision,
    profiles.strategy,
    profiles.dtype,
    profiles.device_name as device,
    speeds.level,
    speeds.parameter_count,
    speeds.weight_bytes,
    speeds.kv_bytes_per_token,
    profiles.batch * profiles.prompt_tokens / list_median(speeds.prefill_seconds)
        as prefill_tokens_per_second,
    profiles.batch * profiles.prompt_tokens / list_max(speeds.prefill_seconds)
        as prefill_tokens_per_second_low,
    profiles.batch * profiles.prompt_tokens / list_min(speeds.prefill_seconds)
        as prefill_tokens_per_second_high,
    profiles.batch * profiles.new_tokens / list_median(speeds.decode_seconds)
        as decode_tokens_per_second,
    profiles.batch * profiles.new_tokens / list_max(speeds.decode_seconds)
        as decode_tokens_per_second_low,
    profiles.batch * profiles.new_tokens / list_min(speeds.decode_seconds)
        as decode_tokens_per_second_high,
    speeds.peak_bytes,
    list_median(speeds.prefill_speedups) as prefill_speedup,
    list_min(speeds.prefill_speedups) as prefill_speedup_low,
    list_max(speeds.prefill_speedups) as prefill_speedup_high,
    list_median(speeds.decode_speedups) as decode_speedup,
    list_min(speeds.decode_speedups) as decode_speedup_low,
    list_max(speeds.decode_speedups) as decode_speedup_high,
    speeds.parameter_count / speeds.unpruned_parameters as parameter_share,
    speeds.weight_bytes / speeds.unpruned_weights as weight_share,
    speeds.kv_bytes_per_token / nullif(speeds.unpruned_cache, 0) as kv_share,
    speeds.peak_bytes / speeds.unpruned_peak as memory_share
from speeds
inner join profiles on speeds.profile_id = profiles.profile_id;

comment on view costs is
'profile x level. Costs without the removed layers: parameters, bytes of weights, bytes of keys and
values for each token of a sequence, tokens per second of prefill and decoding (median, smallest and
largest over the repeats), peak memory. A speedup is the time of level 0 divided by the time of the
level in the same repeat (median, smallest and largest over the repeats). A share is the ratio to
level 0. device is the name of the device.';
