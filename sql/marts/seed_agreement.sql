create view seed_agreement as
select
    run_id,
    level,
    method,
    max(value) filter (where metric = 'seed_overlap_10') as overlap_10,
    max(value) filter (where metric = 'seed_spearman') as spearman,
    max(n) filter (where metric = 'seed_overlap_10') as n
from metrics
where metric in ('seed_overlap_10', 'seed_spearman')
group by run_id, level, method
having max(value) is not null;

comment on view seed_agreement is
'run x level x method with several seeds. Agreement of a method with itself: the mean agreement
between its seeds at one level, over n examples.';
