create view paired_predictions as
with unpruned as (
    select
        run_id,
        model,
        strategy,
        task,
        example_id,
        prediction,
        is_correct,
        confidence,
        probabilities,
        log_probabilities
    from predictions
    where level = 0 and is_scorable
)

select
    pruned.run_id,
    pruned.model,
    pruned.strategy,
    pruned.task,
    pruned.level,
    pruned.example_id,
    pruned.gold,
    pruned.prediction,
    unpruned.prediction as unpruned_prediction,
    pruned.is_correct,
    unpruned.is_correct as unpruned_is_correct,
    pruned.confidence,
    unpruned.confidence as unpruned_confidence,
    pruned.prediction != unpruned.prediction as is_flip,
    case
        when pruned.prediction = unpruned.prediction then null
        when unpruned.is_correct then 'harmful'
        when pruned.is_correct then 'beneficial'
        else 'neutral'
    end as flip_kind,
    -- KL is never negative, but rounding of two nearly equal sums can make it negative. `greatest`
    -- ignores nulls.
    case
        when unpruned.probabilities is not null and pruned.probabilities is not null
            then greatest(
                list_dot_product(unpruned.probabilities, unpruned.log_probabilities)
                - list_dot_product(unpruned.probabilities, pruned.log_probabilities),
                0
            )
    end as kl_from_unpruned
from predictions as pruned
inner join unpruned
    on
        pruned.run_id = unpruned.run_id
        -- These follow from the run; a filter by them thereby reaches level 0, too.
        and pruned.model = unpruned.model
        and pruned.strategy = unpruned.strategy
        and pruned.task = unpruned.task
        and pruned.example_id = unpruned.example_id
where pruned.is_scorable;

comment on view paired_predictions is
'run x level x example. Each prediction beside the prediction of level 0. kl_from_unpruned:
KL(unpruned || level) over the options, in nats; null without log-likelihoods. flip_kind: harmful if
level 0 was right, beneficial if the level is right, else neutral; null without a flip.';
