create view compared_ranks as
-- Lists are unnested twice, not joined with themselves, so that filters by run reach the files.
with grouped as (
    select
        run_id,
        model,
        strategy,
        task,
        example_id,
        method,
        token_count,
        list({
            'level': level,
            'seed': seed,
            'shares_tokens': shares_tokens,
            'centred_ranks': centred_ranks,
            'squared_norm': squared_norm,
            'top_5': top_5::bit,
            'top_10': top_10::bit,
            'top_20': top_20::bit
        }) as attributions
    from attribution_ranks
    group by run_id, model, strategy, task, example_id, method, token_count
),

sided as (
    select
        *,
        unnest(attributions) as one
    from grouped
),

paired as (
    select
        * exclude (attributions),
        unnest(attributions) as other
    from sided
)

select
    run_id,
    model,
    strategy,
    task,
    one['level'] as level,
    example_id,
    method,
    one['seed'] as seed,
    other['level'] as other_level,
    other['seed'] as other_seed,
    token_count,
    bit_count(one['top_5'] & other['top_5'])::integer as common_5,
    bit_count(one['top_10'] & other['top_10'])::integer as common_10,
    bit_count(one['top_20'] & other['top_20'])::integer as common_20,
    list_dot_product(one['centred_ranks'], other['centred_ranks']) as product,
    one['squared_norm'] * other['squared_norm'] as squared_norms
from paired
where
    (one['level'], one['seed']) >= (other['level'], other['seed'])
    -- Tokens of another tokenizer are not those of level 0.
    and (one['level'] = other['level'] or (one['shares_tokens'] and other['shares_tokens']))
    -- Its scores are computed from those of level 0, so levels agree by construction.
    and (
        method != 'difference_shap'
        or (one['level'] = other['level'] and one['seed'] != other['seed'])
    );

comment on view compared_ranks is
'run x level x example x method x seed x other level x other seed. The ranks of two attributions
(see attribution_ranks) for the pairs of attribution_pairs. common_k: the number of tokens that both
have among their k highest scores; product: the dot product of their centred ranks; squared_norms:
the product of their squared norms. In a published snapshot, rank_pairs has these rows.';
