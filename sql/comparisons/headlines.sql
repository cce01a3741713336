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
        method is distinct from 'kernel_shap',
        method nulls last,
        operator is distinct from 'delete_text',
        operator nulls last,
        variant is distinct from 'eraser',
        variant nulls last
) = 1;

comment on view headlines is
'run: one row a run that explains. The method, operator and variant of AOPC it is summed up by:
kernel_shap, delete_text and eraser if there are, else the first by name; random never. Null where a
published table does not tell.';
