create view scored_predictions as
select
    run_id,
    model,
    strategy,
    task,
    level,
    example_id,
    is_correct,
    is_correct_norm,
    confidence,
    -- sum (p - onehot)^2 = sum p^2 - 2 p(gold) + 1
    -- `greatest` ignores nulls.
    case
        when probabilities is not null
            then greatest(
                list_dot_product(probabilities, probabilities) - 2 * probabilities[gold + 1] + 1, 0
            )
    end as brier,
    -log_probabilities[gold + 1] as nll
from predictions
where is_scorable;

comment on view scored_predictions is
'run x level x example. Each prediction that can be scored (see excluded), with its multiclass
Brier score and the nll of the right option in nats. Both are null without log-likelihoods.';
