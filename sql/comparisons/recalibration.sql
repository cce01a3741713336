create view recalibration as
select
    recalibrated.run_id,
    runs.model,
    runs.strategy,
    runs.task,
    recalibrated.level,
    recalibrated.calibrator,
    recalibrated.metric,
    recalibrated.before,
    recalibrated.before_low,
    recalibrated.before_high,
    recalibrated.value,
    recalibrated.ci_low,
    recalibrated.ci_high,
    recalibrated.n,
    recalibrated.gain,
    recalibrated.gain_low,
    recalibrated.gain_high,
    recalibrated.gain_p_value,
    recalibrated.unpruned_value,
    recalibrated.delta,
    recalibrated.delta_low,
    recalibrated.delta_high,
    recalibrated.delta_se,
    recalibrated.equivalence_low,
    recalibrated.equivalence_high,
    recalibrated.p_value,
    recalibrated.higher_is_better,
    recalibrated.note
from lake.recalibrated as recalibrated
inner join lake.runs as runs on recalibrated.run_id = runs.run_id;

comment on view recalibration is
'run x level x calibrator x metric. A metric of confidence before and after recalibration, over n
examples. The calibrator of an example was fitted without that example. gain: the improvement by
recalibration (positive is better, whatever the direction of the metric), with its 95 % interval and
two-sided p-value. delta: the difference of the recalibrated value from unpruned_value, the value of
level 0 without recalibration. It has a 95 % interval, a 90 % interval (equivalence_low,
equivalence_high) and a two-sided p-value. Predictions and accuracy do not change. Intervals are
conditional on the fitted calibrators; the intervals of unpruned_temperature include the variation
of its fit. note says why value is null.';
