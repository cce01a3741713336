create view reliability as
with binned as (
    select
        run_id,
        level,
        confidence,
        is_correct,
        -- The last bin is closed: a confidence of exactly 1 belongs to it.
        least(floor(confidence * 10), 9)::integer as bin
    from scored_predictions
    where confidence is not null
)

select
    run_id,
    level,
    bin,
    bin / 10 as bin_low,
    (bin + 1) / 10 as bin_high,
    count(*) as n,
    avg(confidence) as mean_confidence,
    avg(is_correct::integer) as accuracy
from binned
group by run_id, level, bin;

comment on view reliability is
'run x level x bin. Mean confidence and accuracy in each of 10 equal-width bins. An empty bin has
no row.';
