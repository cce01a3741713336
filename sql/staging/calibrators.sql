create view calibrators as
select
    fitted.run_id,
    runs.model,
    runs.strategy,
    runs.task,
    fitted.level,
    fitted.calibrator,
    fitted.parameters,
    fitted.fit,
    fitted.fit_rows,
    fitted.note
from lake.calibrators as fitted
inner join lake.runs as runs on fitted.run_id = runs.run_id;

comment on view calibrators is
'run x level x calibrator. parameters (JSON): the calibrator that was fitted to all fit_rows
scored predictions, which export writes. fit: how examples were held out for the view
recalibration. unpruned_temperature is the calibrator of level 0. If a calibrator could not be
fitted, parameters is null and note gives the reason.';
