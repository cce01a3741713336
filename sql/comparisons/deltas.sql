create view deltas as
select
    measured.run_id,
    runs.model,
    runs.strategy,
    runs.task,
    measured.level,
    measured.metric,
    nullif(measured.method, '') as method,
    nullif(measured.operator, '') as operator,
    nullif(measured.variant, '') as variant,
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
    measured.note
from lake.metrics as measured
inner join lake.runs as runs on measured.run_id = runs.run_id;

comment on view deltas is
'run x level x metric (x method, operator, variant). Each metric beside level 0, over the n examples
that have it at both: the difference with its 95 % interval (delta_low, delta_high), the 90 % one
that has to lie within a margin to pass two one-sided tests (equivalence_low, equivalence_high), and
the two-sided p of no difference; is_worse is of the estimate alone. A recalibrated metric (variant
is its calibrator) is set beside level 0 as it was.';
