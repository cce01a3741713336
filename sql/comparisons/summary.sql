create view summary as
select
    runs.run_id,
    runs.model,
    runs.strategy,
    runs.task,
    shown.level,
    any_value(shown.label) as label,
    any_value(headlines.method) as method,
    any_value(headlines.operator) as operator,
    max(shown.paired_value) filter (where shown.metric = 'accuracy') as accuracy,
    max(shown.delta) filter (where shown.metric = 'accuracy') as accuracy_delta,
    bool_or(shown.is_accuracy_stable) as is_accuracy_stable,
    max(shown.paired_value) filter (where shown.metric = 'ece') as ece,
    max(shown.delta) filter (where shown.metric = 'ece') as ece_delta,
    max(shown.verdict) filter (where shown.metric = 'ece') as ece_verdict,
    max(shown.paired_n) filter (where shown.metric = 'accuracy') as n,
    max(shown.paired_value) filter (where shown.metric = 'comprehensiveness') as comprehensiveness,
    max(shown.delta) filter (where shown.metric = 'comprehensiveness')
        as comprehensiveness_delta,
    max(shown.verdict) filter (where shown.metric = 'comprehensiveness')
        as comprehensiveness_verdict,
    max(shown.paired_value) filter (where shown.metric = 'sufficiency') as sufficiency,
    max(shown.delta) filter (where shown.metric = 'sufficiency') as sufficiency_delta,
    max(shown.verdict) filter (where shown.metric = 'sufficiency') as sufficiency_verdict,
    max(shown.paired_n) filter (where shown.metric = 'comprehensiveness') as explained_n
from headline_metrics as shown
inner join runs on shown.run_id = runs.run_id
left join headlines on shown.run_id = headlines.run_id
where shown.metric in ('accuracy', 'ece', 'comprehensiveness', 'sufficiency')
group by runs.run_id, runs.model, runs.strategy, runs.task, shown.level;

comment on view summary is
'run x level. The headline metrics side by side, each with its difference from level 0 and its
verdict: accuracy and ECE over n examples; comprehensiveness and sufficiency (AOPC) over
explained_n examples, by the method and operator of headlines. n, is_accuracy_stable and the
verdicts are null if a table was published without examples.';
