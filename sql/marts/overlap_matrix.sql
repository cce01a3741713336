create view overlap_matrix as
select
    stored.run_id,
    runs.model,
    runs.strategy,
    runs.task,
    stored.method,
    stored.level,
    stored.other_level,
    stored.overlap_5,
    stored.overlap_10,
    stored.overlap_20,
    stored.spearman,
    stored.n
from lake.overlap_matrix as stored
inner join lake.runs as runs on stored.run_id = runs.run_id;

comment on view overlap_matrix is
'run x method x level x other level. Mean agreement between the explanations of two levels over n
examples, stored by the analysis from level_overlaps, in both orders and with the diagonal.';
