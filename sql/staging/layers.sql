create view layers as
select
    layers.run_id,
    runs.model,
    runs.strategy,
    runs.task,
    layers.layer,
    layers.importance,
    layers.rank
from lake.layers as layers
inner join lake.runs as runs on layers.run_id = runs.run_id;

comment on view layers is
'run x attention layer. Importance, and rank in the removal order: rank 0 is removed first.';
