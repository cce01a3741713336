create view summary as
with explained as (
    -- The ranking that a run is summed up by: KernelSHAP if it is there, deletion of text likewise.
    select
        run_id,
        method,
        operator
    from faithfulness
    where method != 'random'
    group by run_id, method, operator
    qualify row_number() over (
        partition by run_id
        order by method != 'kernel_shap', method, operator != 'delete_text', operator
    ) = 1
),

headline as (
    select
        deltas.run_id,
        deltas.level,
        deltas.metric,
        deltas.value,
        deltas.delta,
        deltas.n
    from deltas
    left join explained on deltas.run_id = explained.run_id
    where
        deltas.metric in ('accuracy', 'ece')
        or (
            deltas.metric in ('comprehensiveness', 'sufficiency')
            and deltas.method = explained.method
            and deltas.operator = explained.operator
            and deltas.variant = 'eraser'
        )
)

select
    runs.run_id,
    runs.model,
    runs.strategy,
    runs.task,
    headline.level,
    any_value(explained.method) as method,
    any_value(explained.operator) as operator,
    max(headline.value) filter (where headline.metric = 'accuracy') as accuracy,
    max(headline.delta) filter (where headline.metric = 'accuracy') as accuracy_delta,
    max(headline.value) filter (where headline.metric = 'ece') as ece,
    max(headline.delta) filter (where headline.metric = 'ece') as ece_delta,
    max(headline.n) filter (where headline.metric = 'accuracy') as n,
    max(headline.value) filter (where headline.metric = 'comprehensiveness') as comprehensiveness,
    max(headline.delta) filter (where headline.metric = 'comprehensiveness')
        as comprehensiveness_delta,
    max(headline.value) filter (where headline.metric = 'sufficiency') as sufficiency,
    max(headline.delta) filter (where headline.metric = 'sufficiency') as sufficiency_delta,
    max(headline.n) filter (where headline.metric = 'comprehensiveness') as explained_n
from headline
inner join runs on headline.run_id = runs.run_id
left join explained on headline.run_id = explained.run_id
group by runs.run_id, runs.model, runs.strategy, runs.task, headline.level;

comment on view summary is
'run x level. The headline metrics side by side, each with its difference from the unpruned model:
accuracy and ECE over n examples, comprehensiveness and sufficiency (AOPC, plain mean) over
explained_n examples by one method and operator.';
