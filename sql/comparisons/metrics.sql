create view metrics as
select
    measured.run_id,
    runs.model,
    runs.strategy,
    runs.task,
    measured.level,
    coalesce(named.label, measured.level::varchar) as label,
    measured.metric,
    measured.method,
    measured.operator,
    measured.variant,
    measured.value,
    measured.ci_low,
    measured.ci_high,
    measured.n,
    measured.higher_is_better,
    measured.note
from lake.metrics as measured
inner join lake.runs as runs on measured.run_id = runs.run_id
-- Not the view levels, which computes more for each row.
left join lake.levels as named
    on measured.run_id = named.run_id and measured.level = named.level;

comment on view metrics is
'run x level x metric (x method, operator, variant; null if they do not apply). Every metric with
its 95 % interval over n examples. note says why a value is null. higher_is_better is null if
neither direction is better. The variant of a metric of confidence is its calibrator (see
recalibration), null without recalibration.';
