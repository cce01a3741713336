create view headline_metrics as
select
    metrics.run_id,
    metrics.model,
    metrics.strategy,
    metrics.task,
    metrics.level,
    metrics.label,
    metrics.metric,
    metrics.method,
    metrics.operator,
    metrics.variant,
    metrics.higher_is_better,
    metrics.value,
    metrics.ci_low,
    metrics.ci_high,
    metrics.n,
    random.value as random_value,
    deltas.unpruned_value,
    deltas.value as paired_value,
    deltas.n as paired_n,
    deltas.delta,
    deltas.delta_low,
    deltas.delta_high,
    deltas.equivalence_low,
    deltas.equivalence_high,
    verdicts.run_id is not null as is_judged,
    verdicts.p_adjusted,
    verdicts.verdict,
    verdicts.is_shown_worse,
    case
        when verdicts.verdict = 'inconclusive' and verdicts.is_shown_worse then 'worse'
        else verdicts.verdict
    end as shown_verdict,
    verdicts.reason,
    verdicts.smallest_detectable,
    verdicts.n_needed,
    verdicts.is_sequential,
    verdicts.is_accuracy_stable,
    metrics.note
from metrics
inner join headline_keys as keys
    on
        metrics.run_id = keys.run_id
        and metrics.metric = keys.metric
        and metrics.method is not distinct from keys.method
        and metrics.operator is not distinct from keys.operator
        and metrics.variant is not distinct from keys.variant
left join deltas
    on
        metrics.run_id = deltas.run_id
        and metrics.level = deltas.level
        and metrics.metric = deltas.metric
        and metrics.method is not distinct from deltas.method
        and metrics.operator is not distinct from deltas.operator
        and metrics.variant is not distinct from deltas.variant
left join verdicts
    on
        metrics.run_id = verdicts.run_id
        and metrics.level = verdicts.level
        and metrics.metric = verdicts.metric
        and metrics.method is not distinct from verdicts.method
        and metrics.operator is not distinct from verdicts.operator
        and metrics.variant is not distinct from verdicts.variant
left join metrics as random
    on
        metrics.run_id = random.run_id
        and metrics.level = random.level
        and metrics.metric = random.metric
        and random.method = 'random'
        and metrics.operator is not distinct from random.operator
        and metrics.variant is not distinct from random.variant;

comment on view headline_metrics is
'run x level x metric. The row that represents a metric, by the key of headline_keys: value with its
95 % interval over n examples, and random_value, the value of a random ranking. paired_value,
unpruned_value and their difference (as in deltas) are over the paired_n examples with values at
both levels. verdict comes from verdicts, and is null if is_judged is false. Tables and charts show
shown_verdict: the verdict, but worse instead of inconclusive if is_shown_worse is true.';
