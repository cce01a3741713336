create view excluded as
select
    run_id,
    level,
    example_id,
    case
        when list_bool_or(list_transform(option_log_likelihoods, lambda x: isnan(x)))
            then 'a log-likelihood is NaN'
        else 'a log-likelihood is infinite or missing'
    end as reason
from predictions
where probabilities is null;

comment on view excluded is
'run x level x example. Predictions that no mart counts, each with the reason.';
