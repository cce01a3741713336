create view bounds as
select
    run_id,
    level,
    example_id,
    operator,
    kind,
    lower,
    upper,
    beam_width
from lake.bounds;

comment on view bounds is
'run x level x example x operator x kind. The smallest and the largest mean drop over the
fractions of a deletion curve that a beam search over all rankings found.';
