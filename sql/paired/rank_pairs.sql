create view rank_pairs as
select
    stored.run_id,
    runs.model,
    runs.strategy,
    runs.task,
    stored.level,
    stored.example_id,
    stored.method,
    unnest(stored.seed) as seed,
    unnest(stored.other_level) as other_level,
    unnest(stored.other_seed) as other_seed,
    stored.token_count,
    unnest(stored.common_5) as common_5,
    unnest(stored.common_10) as common_10,
    unnest(stored.common_20) as common_20,
    unnest(stored.product) as product,
    unnest(stored.squared_norms) as squared_norms
from lake.rank_pairs as stored
inner join lake.runs as runs on stored.run_id = runs.run_id;

comment on view rank_pairs is
'run x level x example x method x seed x other level x other seed. The rows of compared_ranks, which
the analysis of each run stores as lists. A filter by run, also from a join, skips whole lists.';
