create view calibration as
with ranked as (
    select
        run_id,
        level,
        is_correct,
        confidence,
        brier,
        nll,
        -- The average rank: peers share the mean of the ranks they take up.
        rank() over by_confidence + (
            count(*) over (by_confidence range between current row and current row) - 1
        ) / 2 as confidence_rank
    from scored_predictions
    window by_confidence as (partition by run_id, level order by confidence)
),

scored as (
    select
        run_id,
        level,
        avg(brier) as brier,
        avg(nll) as nll,
        avg(confidence) as mean_confidence,
        count(*) as n,
        count(*) filter (where is_correct) as correct_count,
        sum(confidence_rank) filter (where is_correct) as correct_rank_sum
    from ranked
    group by run_id, level
),

binned as (
    select
        run_id,
        level,
        sum(n * abs(accuracy - mean_confidence)) / sum(n) as ece
    from reliability
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
    binned.ece,
    scored.brier,
    scored.nll,
    scored.mean_confidence,
    -- Mann-Whitney: how often a correct prediction is the more confident one, ties counting half.
    case
        when scored.correct_count between 1 and scored.n - 1
            then
                (scored.correct_rank_sum - scored.correct_count * (scored.correct_count + 1) / 2)
                / (scored.correct_count * (scored.n - scored.correct_count))
    end as auroc,
    coalesce(scored.n, 0) as n
from run_levels
left join scored on run_levels.run_id = scored.run_id and run_levels.level = scored.level
left join binned on run_levels.run_id = binned.run_id and run_levels.level = binned.level;

comment on view calibration is
'run x level. How far confidence can be trusted: ece (10 equal-width bins), multiclass Brier score,
nll in nats, auroc of confidence against correctness (null where all are right or all wrong).';
