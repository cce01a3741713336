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
'run x level x calibrator. parameters (JSON) of the calibrator fitted to all fit_rows predictions
that could be scored, which export ships; fit says how the rows of recalibration were kept apart.
unpruned_temperature is that of level 0. Null where it could not be fitted: note says why.';
