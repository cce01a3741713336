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
'run x level x calibrator x bin. Like reliability, for the recalibrated confidence. The calibrator
of an example was fitted without that example.';
