create view recalibrated_reliability as
select
    run_id,
    level,
    calibrator,
    bin,
    bin / 10 as bin_low,
    (bin + 1) / 10 as bin_high,
    n,
    mean_confidence,
    accuracy
from lake.recalibrated_reliability;

comment on view recalibrated_reliability is
'run x level x calibrator x bin. As reliability, of the recalibrated confidence: each example by a
calibrator that has not seen it.';
