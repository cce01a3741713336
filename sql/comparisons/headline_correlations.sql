create view headline_correlations as
from correlations
semi join headline_keys as keys
    on
        correlations.run_id = keys.run_id
        and correlations.metric = keys.metric
        and correlations.method is not distinct from keys.method
        and correlations.operator is not distinct from keys.operator
        and correlations.variant is not distinct from keys.variant;

comment on view headline_correlations is
'run x metric x scope. The rows of correlations that represent a metric, by the keys of
headline_keys.';
