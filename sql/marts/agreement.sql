create view agreement as
select
    run_id,
    level,
    method,
    max(value) filter (where metric = 'overlap_5') as overlap_5,
    max(value) filter (where metric = 'overlap_10') as overlap_10,
    max(value) filter (where metric = 'overlap_20') as overlap_20,
    max(value) filter (where metric = 'attribution_spearman') as spearman,
    max(n) filter (where metric = 'overlap_10') as n
from metrics
where metric in ('overlap_5', 'overlap_10', 'overlap_20', 'attribution_spearman')
group by run_id, level, method
having max(value) is not null;

comment on view agreement is
'run x level x method. Mean agreement with level 0 under the same seed, over n examples; seeds are
averaged (see example_agreement). The random ranking is left out, because it is the same at all
levels. difference_shap is left out, because its scores are computed from the scores of level 0.';
