create view accuracy as
select
    run_id,
    level,
    avg(is_correct::integer) filter (where is_scorable) as accuracy,
    avg(is_correct_norm::integer) filter (where is_scorable) as accuracy_norm,
    count(*) filter (where is_scorable) as n
from predictions
group by run_id, level;

comment on view accuracy is
'run x level. The share of correct predictions over n examples: by log-likelihood (accuracy) and
by log-likelihood per byte (accuracy_norm; null without log-likelihoods).';
