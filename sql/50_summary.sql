create view summary as
with shown as (
    select
        deltas.run_id,
        deltas.level,
        deltas.metric,
        deltas.value,
        deltas.delta,
        deltas.n
    from deltas
    left join headlines on deltas.run_id = headlines.run_id
    where
        deltas.metric in ('accuracy', 'ece')
        or (
            deltas.metric in ('comprehensiveness', 'sufficiency')
            and deltas.method = headlines.method
            and deltas.operator = headlines.operator
            and deltas.variant = 'eraser'
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
    max(shown.value) filter (where shown.metric = 'ece') as ece,
    max(shown.delta) filter (where shown.metric = 'ece') as ece_delta,
    max(shown.n) filter (where shown.metric = 'accuracy') as n,
    max(shown.value) filter (where shown.metric = 'comprehensiveness') as comprehensiveness,
    max(shown.delta) filter (where shown.metric = 'comprehensiveness')
        as comprehensiveness_delta,
    max(shown.value) filter (where shown.metric = 'sufficiency') as sufficiency,
    max(shown.delta) filter (where shown.metric = 'sufficiency') as sufficiency_delta,
    max(shown.n) filter (where shown.metric = 'comprehensiveness') as explained_n
from shown
inner join runs on shown.run_id = runs.run_id
left join headlines on shown.run_id = headlines.run_id
group by runs.run_id, runs.model, runs.strategy, runs.task, shown.level;

comment on view summary is
'run x level. The headline metrics side by side, each with its difference from the unpruned model:
accuracy and ECE over n examples, comprehensiveness and sufficiency (AOPC, plain mean) over
explained_n examples by one method and operator.';
