create view predictions as
with scorable as (
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
        -- DuckDB orders NaN above every number, so NaN would be the maximum.
        case
            when
                list_bool_and(
                    list_transform(
                        option_log_likelihoods, lambda x: coalesce(isfinite(x), false)
                    )
                )
                then option_log_likelihoods
        end as finite_log_likelihoods
    from lake.predictions
),

shifted as (
    select
        * exclude (finite_log_likelihoods),
        -- After subtracting the maximum no exponential overflows, and their sum is at least 1.
        list_transform(
            finite_log_likelihoods, lambda x: x - list_max(finite_log_likelihoods)
        ) as shifted_log_likelihoods
    from scorable
),

weighted as (
    select
        *,
        list_transform(shifted_log_likelihoods, lambda x: exp(x)) as weights,
        -- The last bit of a sum depends on the order of its terms. Sorted terms give the same
        -- confidence to examples with the same probabilities in another order.
        list_sum(list_sort(weights)) as total_weight
    from shifted
),

softmax as (
    select
        *,
        list_transform(shifted_log_likelihoods, lambda x: x - ln(total_weight))
            as log_probabilities,
        list_transform(weights, lambda x: x / total_weight) as probabilities,
        -- Results from elsewhere may have predictions without scored options.
        option_bytes is null and prediction is not null as is_prediction_only
    from weighted
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
    if(
        softmax.is_prediction_only,
        softmax.stated_confidence,
        softmax.probabilities[softmax.prediction + 1]
    ) as confidence,
    softmax.log_probabilities,
    softmax.probabilities,
    softmax.probabilities is not null or softmax.is_prediction_only as is_scorable
from softmax
inner join lake.runs as runs on softmax.run_id = runs.run_id;

comment on view predictions is
'run x level x example. probabilities: the softmax of option_log_likelihoods; confidence: the
probability of prediction. Both are null if a log-likelihood is not finite (see excluded). The
order of the options does not change them. An imported prediction without scored options has the
confidence that its source states, or null, and no probabilities. is_scorable: metrics use the
row.';
