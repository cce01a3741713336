create view accuracy as
select
    run_id,
    level,
    avg(is_correct::integer) filter (where probabilities is not null) as accuracy,
    avg(is_correct_norm::integer) filter (where probabilities is not null) as accuracy_norm,
    count(probabilities) as n
from predictions
group by run_id, level;

comment on view accuracy is
'run x level. The share of correct predictions over n examples: by log-likelihood (accuracy) and
by log-likelihood per byte (accuracy_norm).';
