create view copied_cells as
with
donations as (
    select
        run_id,
        unnest(copied) as donation
    from lake.runs
)

select
    run_id,
    donation['run_id'] as donor_run_id,
    donation['table'] as table_name,
    donation['cells'] as cells
from donations;

comment on view copied_cells is
'run x donor x table, for runs that reused results. cells: the rows that the run copied from the
donor instead of computing them; they are not in its forward_tokens. The donor may be an unfinished
run, which the lake does not show.';
