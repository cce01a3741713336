create view calibration as
with ranked as (
    select
        run_id,
        level,
        is_correct,
        confidence,
        brier,
        nll,
        -- The average rank: equal confidences share the mean of their ranks.
        rank() over by_confidence + (
            count(*) over (by_confidence range between current row and current row) - 1
        ) / 2 as confidence_rank
    from scored_predictions
    where confidence is not null
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
    -- Mann-Whitney: how often a correct prediction is more confident than a wrong one; a tie
    -- counts half.
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
'run x level. Metrics of confidence over n examples: ece (10 equal-width bins), multiclass Brier
score, nll in nats (both null without log-likelihoods), and auroc of confidence against correctness
(null if all predictions are right or all are wrong).';
