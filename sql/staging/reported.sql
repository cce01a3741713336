create view reported as
select
    reported.run_id,
    runs.model,
    runs.strategy,
    runs.task,
    reported.level,
    reported.metric,
    nullif(reported.method, '') as method,
    nullif(reported.operator, '') as operator,
    nullif(reported.variant, '') as variant,
    reported.value
from lake.reported as reported
inner join lake.runs as runs on reported.run_id = runs.run_id;

comment on view reported is
'run x level x metric (x method, operator, variant; null where they do not apply or are not known).
Values as others published them, without the examples behind them; what they did not has no row.';
