create view aopc as
with curves as (
    select
        run_id,
        level,
        example_id,
        method,
        seed,
        operator,
        kind,
        sum(probability_full - probability_perturbed) as total_drop,
        count(*) as point_count,
        bool_and(
            coalesce(isfinite(probability_full - probability_perturbed), false)
        ) as is_finite
    from deletions
    group by run_id, level, example_id, method, seed, operator, kind
)

select
    curves.run_id,
    curves.level,
    curves.example_id,
    curves.method,
    curves.seed,
    curves.operator,
    curves.kind,
    variants.variant,
    case
        when curves.is_finite then curves.total_drop / (curves.point_count + variants.added)
    end as value
from curves
cross join (values ('eraser', 0), ('paper', 1)) as variants (variant, added);

comment on view aopc is
'run x level x example x method x seed x operator x kind x variant. Area over the deletion curve:
eraser is the mean drop over the fractions, paper their sum / (count + 1); null where a point is NaN.';
