create view deltas as
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
    measured.unpruned_value,
    measured.paired_value as value,
    measured.delta,
    measured.delta_low,
    measured.delta_high,
    measured.delta_se,
    measured.equivalence_low,
    measured.equivalence_high,
    measured.p_value,
    case
        when measured.higher_is_better then measured.delta < 0
        when not measured.higher_is_better then measured.delta > 0
    end as is_worse,
    measured.is_tested,
    measured.higher_is_better,
    measured.paired_n as n,
    measured.look_count,
    measured.look_factor,
    measured.note
from lake.metrics as measured
inner join lake.runs as runs on measured.run_id = runs.run_id
-- Not the view levels, which computes more for each row.
left join lake.levels as named
    on measured.run_id = named.run_id and measured.level = named.level;

comment on view deltas is
'run x level x metric (x method, operator, variant). The difference of each metric from level 0,
over the n examples with values at both: with its 95 % interval (delta_low, delta_high), the 90 %
interval that must lie within a margin to pass two one-sided tests (equivalence_low,
equivalence_high), and the two-sided p-value. is_worse compares the estimates only. A recalibrated
metric (variant is its calibrator) is compared with level 0 without recalibration. look_count: the
number of looks of a sequential run; its intervals hold over all looks, and its p-value is the
repeated one, at most look_factor times that of a single test.';
