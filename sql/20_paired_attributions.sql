create view paired_attributions as
with numbered as materialized (
    select
        row_number() over () as attribution,
        run_id,
        level,
        example_id,
        method,
        seed,
        scores
    from attributions
    where list_bool_and(list_transform(scores, lambda x: coalesce(isfinite(x), false)))
),

tokens as (
    select
        attribution,
        generate_subscripts(scores, 1) as position,
        -- 0 - x, unlike -x, makes no negative zero.
        0 - unnest(scores) as place
    from numbered
),

placed as (
    select
        attribution,
        position,
        -- Twice the average rank less the mean rank: peers share the mean of their ranks.
        2 * rank() over by_place
        + count(*) over (by_place range between current row and current row)
        - count(*) over (partition by attribution)
        - 2 as centred_rank
    from tokens
    window by_place as (partition by attribution order by place)
),

ranked as (
    select
        attribution,
        list(centred_rank::double order by position) as centred_ranks
    from placed
    group by attribution
),

topped as (
    select
        attribution,
        run_id,
        level,
        example_id,
        method,
        seed,
        len(scores) as token_count,
        list_transform(
            list_sort(
                list_zip(list_transform(scores, lambda x: 0 - x), range(len(scores)))
            ),
            lambda x: x[2]
        )[:20] as top_positions
    from numbered
),

summarised as (
    select
        topped.run_id,
        topped.level,
        topped.example_id,
        topped.method,
        topped.seed,
        topped.token_count,
        topped.top_positions,
        ranked.centred_ranks
    from topped
    inner join ranked on topped.attribution = ranked.attribution
),

paired as (
    select
        pruned.run_id,
        pruned.level,
        pruned.example_id,
        pruned.method,
        pruned.seed,
        pruned.token_count,
        pruned.top_positions,
        unpruned.top_positions as unpruned_top_positions,
        list_dot_product(pruned.centred_ranks, unpruned.centred_ranks) as product,
        list_dot_product(pruned.centred_ranks, pruned.centred_ranks)
        * list_dot_product(unpruned.centred_ranks, unpruned.centred_ranks) as squared_norms
    from summarised as pruned
    inner join summarised as unpruned
        on
            pruned.run_id = unpruned.run_id
            and pruned.example_id = unpruned.example_id
            and pruned.method = unpruned.method
            and pruned.seed = unpruned.seed
    where unpruned.level = 0
)

select
    run_id,
    level,
    example_id,
    method,
    seed,
    token_count,
    len(list_intersect(top_positions[:5], unpruned_top_positions[:5]))
    / least(5, token_count) as overlap_5,
    len(list_intersect(top_positions[:10], unpruned_top_positions[:10]))
    / least(10, token_count) as overlap_10,
    len(list_intersect(top_positions, unpruned_top_positions))
    / least(20, token_count) as overlap_20,
    -- Pearson's correlation of average ranks; undefined where all scores of one side are equal.
    case when squared_norms > 0 then product / sqrt(squared_norms) end as spearman
from paired;

comment on view paired_attributions is
'run x level x example x method x seed. Agreement with the attribution of level 0 under the same
seed: the share of common tokens among the k with the highest signed scores (of equal scores the
earlier token; k at most the token count), and the rank correlation of all scores.';
