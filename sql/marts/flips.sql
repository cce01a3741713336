create view flips as
with counted as (
    select
        run_id,
        level,
        avg(is_flip::integer) as flip_rate,
        count(*) filter (where flip_kind = 'harmful') / count(*) as harmful_rate,
        count(*) filter (where flip_kind = 'beneficial') / count(*) as beneficial_rate,
        count(*) filter (where flip_kind = 'neutral') / count(*) as neutral_rate,
        avg(kl_from_unpruned) as mean_kl,
        count(*) as n
    from paired_predictions
    group by run_id, level
),

run_levels as (
    select distinct
        run_id,
        level
    from predictions
)

select
    run_levels.run_id,
    run_levels.level,
    counted.flip_rate,
    counted.harmful_rate,
    counted.beneficial_rate,
    counted.neutral_rate,
    counted.mean_kl,
    coalesce(counted.n, 0) as n
from run_levels
left join counted on run_levels.run_id = counted.run_id and run_levels.level = counted.level;

comment on view flips is
'run x level. The shares of the n examples whose prediction differs from the prediction of level 0:
harmful if level 0 was right, beneficial if the level is right, neutral if neither is. mean_kl: mean
KL(unpruned || level) in nats, null without log-likelihoods.';
