create view summary as
with shown as (
    select
        deltas.run_id,
        deltas.level,
        deltas.metric,
        deltas.value,
        deltas.delta,
        deltas.n,
        verdicts.verdict,
        verdicts.is_accuracy_stable
    from deltas
    left join headlines on deltas.run_id = headlines.run_id
    left join verdicts
        on
            deltas.run_id = verdicts.run_id
            and deltas.level = verdicts.level
            and deltas.metric = verdicts.metric
            and deltas.method is not distinct from verdicts.method
            and deltas.operator is not distinct from verdicts.operator
            and deltas.variant is not distinct from verdicts.variant
    where
        (deltas.metric in ('accuracy', 'ece') and deltas.variant is null)
        or (
            deltas.metric in ('comprehensiveness', 'sufficiency')
            and deltas.method is not distinct from headlines.method
            and deltas.operator is not distinct from headlines.operator
            and deltas.variant is not distinct from headlines.variant
        )
)

select
    runs.run_id,
    runs.model,
    runs.strategy,
    runs.task,
    shown.level,
    any_value(headlines.method) as method,
    any_value(headlines.operator) as operator,
    max(shown.value) filter (where shown.metric = 'accuracy') as accuracy,
    max(shown.delta) filter (where shown.metric = 'accuracy') as accuracy_delta,
    bool_or(shown.is_accuracy_stable) as is_accuracy_stable,
    max(shown.value) filter (where shown.metric = 'ece') as ece,
    max(shown.delta) filter (where shown.metric = 'ece') as ece_delta,
    max(shown.verdict) filter (where shown.metric = 'ece') as ece_verdict,
    max(shown.n) filter (where shown.metric = 'accuracy') as n,
    max(shown.value) filter (where shown.metric = 'comprehensiveness') as comprehensiveness,
    max(shown.delta) filter (where shown.metric = 'comprehensiveness')
        as comprehensiveness_delta,
    max(shown.verdict) filter (where shown.metric = 'comprehensiveness')
        as comprehensiveness_verdict,
    max(shown.value) filter (where shown.metric = 'sufficiency') as sufficiency,
    max(shown.delta) filter (where shown.metric = 'sufficiency') as sufficiency_delta,
    max(shown.verdict) filter (where shown.metric = 'sufficiency') as sufficiency_verdict,
    max(shown.n) filter (where shown.metric = 'comprehensiveness') as explained_n
from shown
inner join runs on shown.run_id = runs.run_id
left join headlines on shown.run_id = headlines.run_id
group by runs.run_id, runs.model, runs.strategy, runs.task, shown.level;

comment on view summary is
'run x level. The headline metrics side by side, each with its difference from the unpruned model
and its verdict: accuracy and ECE over n examples, comprehensiveness and sufficiency (AOPC) over
explained_n examples by the method and operator of headlines. n, is_accuracy_stable and the verdicts
are null where a table was published without examples.';
