create view reported as
select
    reported.run_id,
    runs.model,
    runs.strategy,
    runs.task,
    reported.level,
    reported.metric,
    reported.method,
    reported.operator,
    reported.variant,
    reported.value
from lake.reported as reported
inner join lake.runs as runs on reported.run_id = runs.run_id;

comment on view reported is
'run x level x metric (x method, operator, variant; null if they do not apply or are unknown).
Values that were published without their examples. A value that was not published has no row.';
