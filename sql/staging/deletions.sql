create view deletions as
select
    run_id,
    level,
    example_id,
    method,
    seed,
    operator,
    kind,
    fraction,
    top_count,
    probability_full,
    probability_perturbed
from lake.deletions;

comment on view deletions is
'run x level x example x method x seed x operator x kind x fraction. One point of a deletion
curve.';
