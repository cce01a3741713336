create view headlines as
select
    run_id,
    method,
    operator,
    variant
from metrics
where metric in ('comprehensiveness', 'sufficiency') and method is distinct from 'random'
group by run_id, method, operator, variant
qualify row_number() over (
    partition by run_id
    order by
        method is distinct from 'difference_shap',
        method is distinct from 'kernel_shap',
        method nulls last,
        operator is distinct from 'delete_text',
        operator nulls last,
        variant is distinct from 'eraser',
        variant nulls last
) = 1;

comment on view headlines is
'run: one row for each run with explanations. The method, operator and variant of the AOPC that
represents the run: difference_shap (else kernel_shap), delete_text and eraser if the run has them,
else the first by name, but never the random ranking. Null if a published table does not give
them.';
