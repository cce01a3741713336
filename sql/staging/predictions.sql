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
        confidence,
        -- DuckDB orders NaN above every number, so that NaN would be every maximum.
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

normalised as (
    select
        * exclude (shifted_log_likelihoods),
        list_transform(
            shifted_log_likelihoods,
            lambda x: x - ln(list_sum(list_transform(shifted_log_likelihoods, lambda y: exp(y))))
        ) as log_probabilities
    from shifted
),

softmax as (
    select
        *,
        list_transform(log_probabilities, lambda x: exp(x)) as probabilities
    from normalised
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
    softmax.confidence,
    softmax.log_probabilities,
    softmax.probabilities
from softmax
inner join lake.runs as runs on softmax.run_id = runs.run_id;

comment on view predictions is
'run x level x example. probabilities: the softmax of option_log_likelihoods; null if a
log-likelihood is not finite (see excluded).';
