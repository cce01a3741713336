create view bounds as
select
    bounds.run_id,
    runs.model,
    runs.strategy,
    runs.task,
    bounds.level,
    bounds.example_id,
    bounds.operator,
    bounds.kind,
    bounds.lower,
    bounds.upper,
    bounds.beam_width
from lake.bounds as bounds
inner join lake.runs as runs on bounds.run_id = runs.run_id;

comment on view bounds is
'run x level x example x operator x kind. The smallest and the largest mean drop over the
fractions of a deletion curve that a beam search over all rankings found.';
