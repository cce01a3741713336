create view levels as
with numbered as (
    select
        run_id,
        model,
        revision,
        dtype,
        strategy,
        removal_order,
        parts_per_level,
        unnest(levels) as level
    from runs
),

labelled as (
    select
        numbered.run_id,
        numbered.level,
        coalesce(named.label, numbered.level::varchar) as label,
        case when named.label is null then 'removal' else 'candidate' end as kind,
        case
            when named.label is not null then named.removed_layers
            -- The order of removal is unknown for imports.
            when numbered.level = 0 or len(numbered.removal_order) > 0
                then list_sort(numbered.removal_order[:numbered.level * numbered.parts_per_level])
        end as removed_layers,
        case
            when named.label is not null then nullif(named.strategy, '')
            when numbered.level > 0 then nullif(numbered.strategy, '')
        end as strategy,
        coalesce(named.model, numbered.model) as model,
        coalesce(named.revision, numbered.revision) as revision,
        coalesce(named.dtype, numbered.dtype) as dtype,
        named.weight_bytes,
        coalesce(named.shares_tokens, true) as shares_tokens,
        nullif(named.source_run_id, '') as source_run_id,
        named.source_level
    from numbered
    left join lake.levels as named
        on numbered.run_id = named.run_id and numbered.level = named.level
)

select * from labelled;

comment on view levels is
'run x level. The name and the model of each level. kind: removal (the model of the run without
removed_layers) or candidate (another model, compared with level 0, the baseline). label: the name
of a candidate, or the number of removed layers. strategy: the order of removal; null if nothing is
removed. weight_bytes: the weights in their number format; null if unknown. shares_tokens: all
prompts have the same tokens as at level 0, so attributions can be compared. source_run_id and
source_level: the sweep and level from which a comparison takes its results.';
