create view predictions as
with spanned as (
    select
        run_id,
        level,
        example_id,
        option_log_likelihoods,
        option_bytes,
        gold,
        prediction,
        prediction_norm,
        is_correct,
        is_correct_norm,
        confidence as stated_confidence,
        list_max(option_log_likelihoods) as highest,
        list_min(option_log_likelihoods) as lowest
    from lake.predictions
),

finite as (
    select
        * exclude (lowest),
        -- DuckDB orders NaN above every number, and its extremes ignore nulls.
        case
            when
                isfinite(highest)
                and isfinite(lowest)
                and list_count(option_log_likelihoods) = len(option_log_likelihoods)
                then option_log_likelihoods
        end as finite_log_likelihoods
    from spanned
),

weighted as (
    select
        *,
        -- After subtracting the maximum no exponential overflows, and their sum is at least 1.
        list_transform(finite_log_likelihoods, lambda x: exp(x - highest)) as weights
    from finite
),

-- The last bit of a sum depends on the order of its terms. Ascending terms give the same confidence
-- to examples with the same probabilities in another order. Comparisons of pairs sort up to 4 terms
-- in less than half of the time of list_sort. A missing term counts as 0.
first_pairs as (
    select
        *,
        least(coalesce(weights[1], 0), coalesce(weights[2], 0)) as low,
        greatest(coalesce(weights[1], 0), coalesce(weights[2], 0)) as high,
        least(coalesce(weights[3], 0), coalesce(weights[4], 0)) as other_low,
        greatest(coalesce(weights[3], 0), coalesce(weights[4], 0)) as other_high
    from weighted
),

middle_pairs as (
    select
        *,
        greatest(low, other_low) as middle,
        least(high, other_high) as other_middle
    from first_pairs
),

summed as (
    select
        * exclude (low, high, other_low, other_high, middle, other_middle),
        case
            when len(weights) <= 4
                then
                    least(low, other_low)
                    + least(middle, other_middle)
                    + greatest(middle, other_middle)
                    + greatest(high, other_high)
            else list_sum(list_sort(weights))
        end as total_weight
    from middle_pairs
),

logged as (
    select
        *,
        ln(total_weight) as log_total_weight
    from summed
),

softmax as (
    select
        *,
        list_transform(finite_log_likelihoods, lambda x: x - highest - log_total_weight)
            as log_probabilities,
        list_transform(weights, lambda x: x / total_weight) as probabilities,
        -- Results from elsewhere may have predictions without scored options.
        option_bytes is null and prediction is not null as is_prediction_only
    from logged
)

select
    softmax.run_id,
    runs.model,
    runs.strategy,
    runs.task,
    softmax.level,
    softmax.example_id,
    softmax.option_log_likelihoods,
    softmax.option_bytes,
    softmax.gold,
    softmax.prediction,
    softmax.prediction_norm,
    softmax.is_correct,
    softmax.is_correct_norm,
    case
        when softmax.is_prediction_only then softmax.stated_confidence
        else softmax.weights[softmax.prediction + 1] / softmax.total_weight
    end as confidence,
    softmax.log_probabilities,
    softmax.probabilities,
    softmax.finite_log_likelihoods is not null or softmax.is_prediction_only as is_scorable
from softmax
inner join lake.runs as runs on softmax.run_id = runs.run_id;

comment on view predictions is
'run x level x example. probabilities: the softmax of option_log_likelihoods; confidence: the
probability of prediction. Both are null if a log-likelihood is not finite (see excluded). The order
of the options does not change these values. An imported prediction without scored options has the
confidence that its source states, or null, and no probabilities. is_scorable: metrics use
the row.';
