create view example_metrics as
with prediction_metrics as (
    select
        run_id,
        model,
        strategy,
        task,
        level,
        example_id,
        is_correct::integer::double as accuracy,
        is_correct_norm::integer::double as accuracy_norm,
        brier,
        nll,
        confidence as mean_confidence
    from scored_predictions
),

flip_metrics as (
    select
        run_id,
        model,
        strategy,
        task,
        level,
        example_id,
        is_flip::integer::double as flip_rate,
        (is_flip and flip_kind = 'harmful')::integer::double as harmful_flip_rate,
        (is_flip and flip_kind = 'beneficial')::integer::double as beneficial_flip_rate,
        kl_from_unpruned
    from paired_predictions
),

advantages as (
    select
        *,
        case
            when method = 'random' then null
            when kind = 'comprehensiveness' then value - random_value
            when kind = 'sufficiency' then random_value - value
        end as advantage
    from example_faithfulness
),

-- Each part is read once and unnested, not joined, so that filters by run reach the files.
long_form as (
    select
        run_id,
        model,
        strategy,
        task,
        level,
        example_id,
        unnest(['accuracy', 'accuracy_norm', 'brier', 'nll', 'mean_confidence']) as metric,
        null::varchar as method,
        null::varchar as operator,
        null::varchar as variant,
        unnest([accuracy, accuracy_norm, brier, nll, mean_confidence]) as value
    from prediction_metrics
    union all
    select
        run_id,
        model,
        strategy,
        task,
        level,
        example_id,
        unnest(['flip_rate', 'harmful_flip_rate', 'beneficial_flip_rate', 'kl_from_unpruned'])
            as metric,
        null as method,
        null as operator,
        null as variant,
        unnest([flip_rate, harmful_flip_rate, beneficial_flip_rate, kl_from_unpruned]) as value
    from flip_metrics
    union all
    select
        run_id,
        model,
        strategy,
        task,
        level,
        example_id,
        unnest(
            [
                'overlap_5',
                'overlap_10',
                'overlap_20',
                'attribution_spearman',
                'cross_overlap_10',
                'cross_spearman',
                'seed_overlap_10',
                'seed_spearman'
            ]
        ) as metric,
        method,
        null as operator,
        null as variant,
        unnest(
            [
                overlap_5,
                overlap_10,
                overlap_20,
                spearman,
                cross_overlap_10,
                cross_spearman,
                seed_overlap_10,
                seed_spearman
            ]
        ) as value
    from example_agreement
    union all
    select
        run_id,
        model,
        strategy,
        task,
        level,
        example_id,
        unnest([kind, kind || '_advantage']) as metric,
        method,
        operator,
        variant,
        unnest([value, advantage]) as value
    from advantages
    union all
    select
        run_id,
        model,
        strategy,
        task,
        level,
        example_id,
        unnest(['repetition', 'generation_agreement']) as metric,
        null as method,
        null as operator,
        null as variant,
        unnest([repetition, agreement]) as value
    from paired_texts
)

select
    run_id,
    model,
    strategy,
    task,
    level,
    example_id,
    metric,
    method,
    operator,
    variant,
    value
from long_form
where value is not null;

comment on view example_metrics is
'run x level x example x metric (x method, operator, variant; null if they do not apply). The
value of one example for each metric that is a mean over examples; seeds are averaged. A value
that cannot be computed has no row. _advantage: the gain over the random ranking of the same
example.';
