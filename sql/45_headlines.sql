create view headlines as
select
    run_id,
    method,
    operator
from faithfulness
where method != 'random'
group by run_id, method, operator
qualify row_number() over (
    partition by run_id
    order by method != 'kernel_shap', method, operator != 'delete_text', operator
) = 1;

comment on view headlines is
'run: one row a run that explains. The method and operator it is summed up by: kernel_shap if there
is one, else the first by name that is not random; delete_text likewise.';
