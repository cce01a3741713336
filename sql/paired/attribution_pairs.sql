create view attribution_pairs as
-- Lists are unnested twice, not joined with themselves, so that filters by run reach the files.
with grouped as (
    select
        run_id,
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
    group by run_id, example_id, method, token_count
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
),

compared as (
    select
        run_id,
        one['level'] as level,
        example_id,
        method,
        one['seed'] as seed,
        other['level'] as other_level,
        other['seed'] as other_seed,
        token_count,
        one['top_5'] & other['top_5'] as common_5,
        one['top_10'] & other['top_10'] as common_10,
        one['top_20'] & other['top_20'] as common_20,
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
        )
)

select
    run_id,
    level,
    example_id,
    method,
    seed,
    other_level,
    other_seed,
    token_count,
    bit_count(common_5) / least(5, token_count) as overlap_5,
    bit_count(common_10) / least(10, token_count) as overlap_10,
    bit_count(common_20) / least(20, token_count) as overlap_20,
    -- Pearson's correlation of average ranks; undefined if all scores of one attribution are equal.
    case when squared_norms > 0 then product / sqrt(squared_norms) end as spearman
from compared;

comment on view attribution_pairs is
'run x level x example x method x seed x other level x other seed. Agreement of two attributions of
one example by one method. The other attribution is from a lower level, or from the same level with
the same or a lower seed. overlap_k: the share of common tokens among the k tokens with the highest
signed scores (of equal scores the earlier token; k is at most the token count). spearman: the rank
correlation of all scores. Attributions have no pairs if they have a problem or different token
counts, if their tokenizer is not the tokenizer of level 0 (see levels), or if their method is
random. difference_shap has only pairs of seeds at one level: it computes the scores of every level
from the scores of level 0, so its levels agree more than their explanations do.';
