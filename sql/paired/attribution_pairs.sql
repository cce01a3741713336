create view attribution_pairs as
with usable as (
    select
        run_id,
        level,
        example_id,
        method,
        seed,
        shares_tokens,
        len(scores) as token_count,
        range(len(scores)) as positions,
        list_transform(scores, lambda x: -x) as places
    from attributions
    -- The random ranking is the same at all levels.
    where problem is null and method != 'random'
),

ordered as (
    select
        run_id,
        level,
        example_id,
        method,
        seed,
        shares_tokens,
        token_count,
        list_transform(
            list_sort(list_zip(places, positions)), lambda x: x[2]
        ) as earlier_peer_first,
        list_transform(
            list_sort(list_zip(places, list_transform(positions, lambda x: -x))), lambda x: x[2]
        ) as later_peer_first
    from usable
),

summarised as materialized (
    select
        run_id,
        level,
        example_id,
        method,
        seed,
        shares_tokens,
        token_count,
        earlier_peer_first[:20] as top_positions,
        -- The two ranks of a token add up to twice the mean rank of the tokens with its score.
        -- After subtraction of the mean rank of all tokens, an attribution's ranks sum to zero.
        list_transform(
            list_zip(list_grade_up(earlier_peer_first), list_grade_up(later_peer_first, 'desc')),
            lambda x: (x[1] + x[2] - token_count - 1)::double
        ) as centred_ranks
    from ordered
),

paired as (
    select
        one.run_id,
        one.level,
        one.example_id,
        one.method,
        one.seed,
        other.level as other_level,
        other.seed as other_seed,
        one.token_count,
        one.top_positions,
        other.top_positions as other_top_positions,
        list_dot_product(one.centred_ranks, other.centred_ranks) as product,
        list_dot_product(one.centred_ranks, one.centred_ranks)
        * list_dot_product(other.centred_ranks, other.centred_ranks) as squared_norms
    from summarised as one
    inner join summarised as other
        on
            one.run_id = other.run_id
            and one.example_id = other.example_id
            and one.method = other.method
            and one.token_count = other.token_count
            and (one.level, one.seed) >= (other.level, other.seed)
            -- Tokens of another tokenizer are not those of level 0.
            and (one.level = other.level or (one.shares_tokens and other.shares_tokens))
            -- Its scores are computed from those of level 0, so levels agree by construction.
            and (
                one.method != 'difference_shap'
                or (one.level = other.level and one.seed != other.seed)
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
    len(list_intersect(top_positions[:5], other_top_positions[:5]))
    / least(5, token_count) as overlap_5,
    len(list_intersect(top_positions[:10], other_top_positions[:10]))
    / least(10, token_count) as overlap_10,
    len(list_intersect(top_positions, other_top_positions))
    / least(20, token_count) as overlap_20,
    -- Pearson's correlation of average ranks; undefined if all scores of one attribution are equal.
    case when squared_norms > 0 then product / sqrt(squared_norms) end as spearman
from paired;

comment on view attribution_pairs is
'run x level x example x method x seed x other level x other seed. Agreement of two attributions
of one example by one method. The other attribution is from a lower level, or from the same level
with the same or a lower seed. overlap_k: the share of common tokens among the k tokens with the
highest signed scores (of equal scores the earlier token; k is at most the token count). spearman:
the rank correlation of all scores. Attributions with a problem, with different token counts, of a
tokenizer other than that of level 0 (see levels), or by the random method have no pairs. difference_shap has pairs of seeds of one level only: it makes
the scores of every level from those of level 0, so its levels agree more than their explanations
do.';
