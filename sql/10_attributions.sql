create view attributions as
select
    run_id,
    level,
    example_id,
    method,
    seed,
    target,
    scores
from lake.attributions;

comment on view attributions is
'run x level x example x method x seed. One score a prompt token: nats it adds to the target.';
