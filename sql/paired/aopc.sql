create view aopc as
with curves as (
    select
        run_id,
        model,
        strategy,
        task,
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
    group by run_id, model, strategy, task, level, example_id, method, seed, operator, kind
),

finite_curves as (
    select
        * exclude (total_drop, is_finite),
        case when is_finite then total_drop end as total_drop
    from curves
),

spans as (
    select
        run_id,
        level,
        example_id,
        operator,
        kind,
        lower,
        -- If all rankings give the same drop, no ranking is better than another.
        case
            when isfinite(lower) and isfinite(upper) and upper > lower then upper - lower
        end as span
    from bounds
)

select
    finite_curves.run_id,
    finite_curves.model,
    finite_curves.strategy,
    finite_curves.task,
    finite_curves.level,
    finite_curves.example_id,
    finite_curves.method,
    finite_curves.seed,
    finite_curves.operator,
    finite_curves.kind,
    variants.variant,
    case variants.variant
        when 'eraser' then finite_curves.total_drop / finite_curves.point_count
        when 'paper' then finite_curves.total_drop / (finite_curves.point_count + 1)
        else (finite_curves.total_drop / finite_curves.point_count - spans.lower) / spans.span
    end as value
from finite_curves
left join spans
    on
        finite_curves.run_id = spans.run_id
        and finite_curves.level = spans.level
        and finite_curves.example_id = spans.example_id
        and finite_curves.operator = spans.operator
        and finite_curves.kind = spans.kind
cross join (values ('eraser'), ('paper'), ('normalised')) as variants (variant)
where variants.variant != 'normalised' or spans.run_id is not null;

comment on view aopc is
'run x level x example x method x seed x operator x kind x variant. Area over the deletion curve.
eraser: the mean drop over the fractions; paper: their sum / (count + 1); normalised, if the run
has bounds: (eraser - lower) / (upper - lower), which may lie outside 0 .. 1, because a beam
search may miss the true bounds. Null if a point is NaN; normalised also if both bounds are
equal.';
