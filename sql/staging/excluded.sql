create view excluded as
select
    run_id,
    model,
    strategy,
    task,
    level,
    example_id,
    case
        when option_bytes is null then 'no prediction'
        when list_bool_or(list_transform(option_log_likelihoods, lambda x: isnan(x)))
            then 'a log-likelihood is NaN'
        else 'a log-likelihood is infinite or missing'
    end as reason
from predictions
where not is_scorable
union all
select distinct
    run_id,
    model,
    strategy,
    task,
    level,
    example_id,
    problem as reason
from attributions
where problem is not null;

comment on view excluded is
'run x level x example x reason. Predictions that the marts ignore, and examples with an
attribution that is not compared with others: the agreement ignores the seed of that attribution.
Deletion curves do not depend on the scores and still count.';
