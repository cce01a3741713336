create view deltas as
-- Metrics whose difference has a limit if n examples are equal at both levels. With an error of
-- 5 %, at most a share of 1 - 0.05^(1/n) of all examples then differs, and each moves the metric by
-- greatest_shift / n at most: the range of a mean; twice that of ECE, because an example that
-- leaves one bin and enters another moves it twice.
with shifts as (
    from (
        values
        ('ece', 2),
        ('brier', 2),
        ('comprehensiveness', 2),
        ('sufficiency', 2),
        ('comprehensiveness_advantage', 4),
        ('sufficiency_advantage', 4),
        ('repetition', 1)
    ) as t (metric, greatest_shift)
),

equals as (
    select
        measured.run_id,
        measured.level,
        measured.metric,
        measured.method,
        measured.operator,
        measured.variant,
        shifts.greatest_shift * (1 - 0.05 ** (1 / measured.paired_n)) as bound
    from lake.metrics as measured
    inner join shifts on measured.metric = shifts.metric
    where
        measured.level > 0
        and measured.delta = 0
        -- No resample differs.
        and measured.delta_se is null
        and measured.paired_n > 0
        and measured.look_count is null
        and measured.method is distinct from 'random'
        and measured.variant is distinct from 'normalised'
)

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
    coalesce(measured.equivalence_low, -equals.bound) as equivalence_low,
    coalesce(measured.equivalence_high, equals.bound) as equivalence_high,
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
    on measured.run_id = named.run_id and measured.level = named.level
left join equals
    on
        measured.run_id = equals.run_id
        and measured.level = equals.level
        and measured.metric = equals.metric
        and measured.method is not distinct from equals.method
        and measured.operator is not distinct from equals.operator
        and measured.variant is not distinct from equals.variant;

comment on view deltas is
'run x level x metric (x method, operator, variant). The difference of each metric from level 0,
over the n examples with values at both levels. It has a 95 % interval (delta_low, delta_high), a 90
% interval (equivalence_low, equivalence_high) that passes two one-sided tests if it lies within a
margin, and a two-sided p-value. If no example differs, delta_se and p_value are null, and the 90 %
interval covers the difference that n equal examples could miss. is_worse compares the estimates
only. A recalibrated metric (variant is its calibrator) is compared with level 0 without
recalibration. look_count: the number of looks of a sequential run; its intervals hold over all
looks, and its p-value is the repeated p-value, at most look_factor times the p-value of a single
test.';
