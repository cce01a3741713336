-- Like the view pareto, for some runs only: the levels of other runs dominate no level.
create macro pareto_among(run_ids := null) as table
    with known as (
        select *
        from headline_metrics
        where
            higher_is_better is not null
            and value is not null
            and (run_ids is null or list_contains(run_ids, run_id))
    ),

    points as (
        select
            known.run_id,
            runs.model,
            runs.revision,
            runs.strategy,
            runs.task,
            known.level,
            nullif(runs.layer_count, 0) as layer_count,
            coalesce(runs.unit = 'expert', false) as counts_experts,
            known.metric,
            known.method,
            known.operator,
            known.variant,
            known.value,
            known.ci_low,
            known.ci_high,
            known.higher_is_better,
            known.verdict,
            case when known.higher_is_better then known.value else -known.value end as goodness
        from known
        inner join runs on known.run_id = runs.run_id
        -- The level of a candidate is not a number of removed layers.
        where
            known.run_id not in (
                select named.run_id
                from lake.levels as named
            )
    ),

    -- If several devices were measured, the last one counts.
    cost as (
        select
            run_id,
            level,
            prefill_speedup,
            decode_speedup,
            weight_share,
            kv_share
        from efficiency
        qualify
            rank() over (
                partition by run_id
                order by profiled_at desc, profile_id asc
            ) = 1
    ),

    rivals as (
        select
            *,
            max(goodness) over as_many as best_of_as_many,
            max(goodness) over more as best_of_more
        from points
        window
            as_many as (
                partition by model, revision, task, metric, counts_experts
                order by level desc
                range between unbounded preceding and current row
            ),
            more as (
                partition by model, revision, task, metric, counts_experts
                order by level desc
                range between unbounded preceding and 1 preceding
            )
    )

    select
        rivals.run_id,
        rivals.model,
        rivals.revision,
        rivals.strategy,
        rivals.task,
        rivals.level,
        rivals.level as removed_layers,
        rivals.layer_count,
        rivals.level / rivals.layer_count as removed_share,
        rivals.metric,
        rivals.method,
        rivals.operator,
        rivals.variant,
        rivals.value,
        rivals.ci_low,
        rivals.ci_high,
        rivals.higher_is_better,
        cost.prefill_speedup,
        cost.decode_speedup,
        cost.weight_share,
        cost.kv_share,
        rivals.verdict,
        rivals.goodness >= rivals.best_of_as_many
        and (rivals.best_of_more is null or rivals.goodness > rivals.best_of_more)
            as is_undominated
    from rivals
    left join cost on rivals.run_id = cost.run_id and rivals.level = cost.level;

create view pareto as
from pareto_among();

comment on view pareto is
'run x level x metric with a direction and a value (explanations by the method, operator and variant
of headlines). The value of a metric against the number of removed layers (removed_layers of
layer_count attention layers), and the savings (see efficiency) on the device that was profiled
last; null without a profile. is_undominated: no level of any run of the same model, revision and
task removes at least as many layers with a value at least as good, and is better in one of the two.
Candidates of comparisons are left out. Levels of the unit expert count the experts that each block
lacks, and are compared with each other only. verdict comes from verdicts, and is null at level 0.';
