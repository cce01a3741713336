create view recovery as
with counted as (
    select
        run_id,
        level,
        count(*) as n,
        count(*) filter (where is_correct) as correct,
        count(*) filter (where unpruned_is_correct) as unpruned_correct,
        count(*) filter (where is_correct or unpruned_is_correct) as either_correct,
        count(*) filter (where is_correct != unpruned_is_correct) as discordant
    from paired_predictions
    where is_correct is not null and unpruned_is_correct is not null
    group by run_id, level
),

adjusted as (
    select
        *,
        -- The z of each share's interval, so that their ratio has the standard error of a ratio of
        -- paired shares. 1.959964 is the 97.5 % quantile of the normal distribution.
        1.959963984540054
        * sqrt((discordant + 2) / ((correct + 1) * (unpruned_correct + 1)))
        / (
            sqrt((either_correct + 1 - correct) / ((correct + 1) * (either_correct + 2)))
            + sqrt(
                (either_correct + 1 - unpruned_correct)
                / ((unpruned_correct + 1) * (either_correct + 2))
            )
        ) as z
    from counted
),

sequential_runs as (
    select distinct run_id
    from lake.looks
),

bounded as (
    select
        *,
        -- Wilson's interval of a share of the examples that either level gets right, without the
        -- common factor of both shares.
        z * sqrt(z ** 2 + 4 * correct * (1 - correct / nullif(either_correct, 0))) as reach,
        z * sqrt(
            z ** 2 + 4 * unpruned_correct * (1 - unpruned_correct / nullif(either_correct, 0))
        ) as unpruned_reach
    from adjusted
)

select
    bounded.run_id,
    bounded.level,
    coalesce(named.label, bounded.level::varchar) as label,
    bounded.correct / nullif(bounded.n, 0) as accuracy,
    bounded.unpruned_correct / nullif(bounded.n, 0) as unpruned_accuracy,
    bounded.correct / nullif(bounded.unpruned_correct, 0) as recovery,
    case
        when bounded.unpruned_correct > 0 and looked.run_id is null
            then
                greatest(2 * bounded.correct + bounded.z ** 2 - bounded.reach, 0)
                / (2 * bounded.unpruned_correct + bounded.z ** 2 + bounded.unpruned_reach)
    end as recovery_low,
    case
        when bounded.unpruned_correct > 0 and looked.run_id is null
            then
                (2 * bounded.correct + bounded.z ** 2 + bounded.reach)
                / (2 * bounded.unpruned_correct + bounded.z ** 2 - bounded.unpruned_reach)
    end as recovery_high,
    bounded.n
from bounded
left join lake.levels as named
    on bounded.run_id = named.run_id and bounded.level = named.level
left join sequential_runs as looked on bounded.run_id = looked.run_id
where bounded.level > 0;

comment on view recovery is
'run x level above 0. Recovery: the accuracy of a level divided by that of level 0, over the n
examples with a prediction at both, and its 95 % interval for paired shares (Bonett and Price 2006,
Statistics in Medicine 25). Null if level 0 is never right. A run that looked at its examples
several times has no interval here, because the interval would not allow for the looks (see
verdicts).';
