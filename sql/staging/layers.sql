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
'run x layer or expert. Importance, and rank in the removal order: rank 0 is removed first. Only
layers with the unit of the run count. Expert n is expert n % runs.layer_count of block n //
runs.layer_count, where only blocks with experts count.';
