create view correlations as
select
    correlated.run_id,
    runs.model,
    runs.strategy,
    runs.task,
    correlated.metric,
    correlated.method,
    correlated.operator,
    correlated.variant,
    correlated.scope,
    correlated.pearson,
    correlated.pearson_low,
    correlated.pearson_high,
    correlated.spearman,
    correlated.spearman_low,
    correlated.spearman_high,
    correlated.kendall,
    correlated.kendall_low,
    correlated.kendall_high,
    correlated.partial,
    correlated.partial_low,
    correlated.partial_high,
    correlated.level_count,
    correlated.note
from lake.correlations as correlated
inner join lake.runs as runs on correlated.run_id = runs.run_id;

comment on view correlations is
'run x metric (x method, operator, variant) x scope. Correlation of accuracy with each other metric
over the levels that have both values: over all levels (scope all) or over the levels of stable
accuracy (scope stable). Pearson, Spearman (average ranks), Kendall tau-b, and partial (Pearson
given the level), each with its 95 % interval over examples. note says why a value is null.';
