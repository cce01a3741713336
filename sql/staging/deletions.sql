create view deletions as
select
    deletions.run_id,
    runs.model,
    runs.strategy,
    runs.task,
    deletions.level,
    deletions.example_id,
    deletions.method,
    deletions.seed,
    deletions.operator,
    deletions.kind,
    deletions.fraction,
    deletions.top_count,
    deletions.probability_full,
    deletions.probability_perturbed
from lake.deletions as deletions
inner join lake.runs as runs on deletions.run_id = runs.run_id;

comment on view deletions is
'run x level x example x method x seed x operator x kind x fraction. One point of a deletion
curve.';
