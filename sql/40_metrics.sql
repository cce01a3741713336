create view metrics as
with directions (metric, higher_is_better) as (
    values
    ('accuracy', true),
    ('accuracy_norm', true),
    ('ece', false),
    ('brier', false),
    ('nll', false),
    ('mean_confidence', null),
    ('auroc', true),
    ('comprehensiveness', true),
    ('sufficiency', false),
    ('comprehensiveness_advantage', true),
    ('sufficiency_advantage', true),
    ('overlap_5', true),
    ('overlap_10', true),
    ('overlap_20', true),
    ('attribution_spearman', true),
    ('flip_rate', false),
    ('harmful_flip_rate', false),
    ('beneficial_flip_rate', true),
    ('kl_from_unpruned', false)
),

long_form as (
    select
        accuracy.run_id,
        accuracy.level,
        named.metric,
        null::varchar as method,
        null::varchar as operator,
        null::varchar as variant,
        named.value,
        accuracy.n
    from accuracy
    cross join (
        values
        ('accuracy', accuracy.accuracy),
        ('accuracy_norm', accuracy.accuracy_norm)
    ) as named (metric, value)
    union all
    select
        calibration.run_id,
        calibration.level,
        named.metric,
        null::varchar as method,
        null::varchar as operator,
        null::varchar as variant,
        named.value,
        calibration.n
    from calibration
    cross join (
        values
        ('ece', calibration.ece),
        ('brier', calibration.brier),
        ('nll', calibration.nll),
        ('mean_confidence', calibration.mean_confidence),
        ('auroc', calibration.auroc)
    ) as named (metric, value)
    union all
    select
        flips.run_id,
        flips.level,
        named.metric,
        null::varchar as method,
        null::varchar as operator,
        null::varchar as variant,
        named.value,
        flips.n
    from flips
    cross join (
        values
        ('flip_rate', flips.flip_rate),
        ('harmful_flip_rate', flips.harmful_rate),
        ('beneficial_flip_rate', flips.beneficial_rate),
        ('kl_from_unpruned', flips.mean_kl)
    ) as named (metric, value)
    union all
    select
        agreement.run_id,
        agreement.level,
        named.metric,
        agreement.method,
        null as operator,
        null as variant,
        named.value,
        agreement.n
    from agreement
    cross join (
        values
        ('overlap_5', agreement.overlap_5),
        ('overlap_10', agreement.overlap_10),
        ('overlap_20', agreement.overlap_20),
        ('attribution_spearman', agreement.spearman)
    ) as named (metric, value)
    union all
    select
        faithfulness.run_id,
        faithfulness.level,
        named.metric,
        faithfulness.method,
        faithfulness.operator,
        faithfulness.variant,
        named.value,
        faithfulness.n
    from faithfulness
    cross join (
        values
        (faithfulness.kind, faithfulness.value),
        (faithfulness.kind || '_advantage', faithfulness.advantage)
    ) as named (metric, value)
    -- A random ranking has no advantage over itself.
    where faithfulness.method != 'random' or named.metric = faithfulness.kind
)

select
    long_form.run_id,
    runs.model,
    runs.strategy,
    runs.task,
    long_form.level,
    long_form.metric,
    long_form.method,
    long_form.operator,
    long_form.variant,
    long_form.value,
    long_form.n,
    directions.higher_is_better
from long_form
inner join runs on long_form.run_id = runs.run_id
left join directions on long_form.metric = directions.metric;

comment on view metrics is
'run x level x metric (x method, operator, variant; null where they do not apply). Every mart in
long form: value is null where it cannot be computed, n counts the examples behind it,
higher_is_better is null where neither direction is.';
