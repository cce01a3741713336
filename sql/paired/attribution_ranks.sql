create view attribution_ranks as
with usable as (
    select
        run_id,
        model,
        strategy,
        task,
        level,
        example_id,
        method,
        seed,
        shares_tokens,
        scores,
        len(scores)::integer as token_count,
        list_sort(scores, 'desc') as descending_scores
    from attributions
    -- The random ranking is the same at all levels.
    where problem is null and method != 'random'
),

placed as (
    select
        *,
        -- 1 + the number of tokens with a higher score. Tokens with equal scores are peers.
        list_transform(scores, lambda x: list_position(descending_scores, x)) as places
    from usable
),

ranked as (
    select
        *,
        list_reverse(descending_scores) as ascending_scores,
        list_sum(places) < token_count * (token_count + 1) // 2 as has_peers,
        range(token_count)::integer[] as positions
    from placed
),

ordered as (
    select
        * exclude (scores, descending_scores, ascending_scores, places),
        -- The places of the first and the last peer add up to twice the mean place. After
        -- subtraction of the mean of all tokens, an attribution's ranks sum to zero.
        case
            when has_peers
                then list_transform(
                    positions,
                    lambda i: places[i + 1] - list_position(ascending_scores, scores[i + 1])
                )
            else list_transform(places, lambda place: 2 * place - token_count - 1)
        end::double[] as centred_ranks,
        list_transform(
            list_sort(
                list_transform(
                    list_filter(positions, lambda i: places[i + 1] <= 20),
                    lambda i: places[i + 1]::bigint * token_count + i
                )
            )[:20],
            lambda x: (x % token_count)::integer
        ) as top_positions,
        bitstring('0', token_count) as no_positions
    from ranked
)

select
    run_id,
    model,
    strategy,
    task,
    level,
    example_id,
    method,
    seed,
    shares_tokens,
    token_count::bigint as token_count,
    centred_ranks,
    list_dot_product(centred_ranks, centred_ranks) as squared_norm,
    -- One bit for each token, set for the top tokens; as text, because few readers know bits.
    list_bit_or(list_transform(top_positions[:5], lambda i: set_bit(no_positions, i, 1)))::varchar
        as top_5,
    list_bit_or(list_transform(top_positions[:10], lambda i: set_bit(no_positions, i, 1)))::varchar
        as top_10,
    list_bit_or(list_transform(top_positions, lambda i: set_bit(no_positions, i, 1)))::varchar
        as top_20
from ordered;

comment on view attribution_ranks is
'run x level x example x method x seed. The ranks of the scores of each attribution that can be
compared with others (see attribution_pairs). centred_ranks: for each token, twice its average rank
(1 is the highest score) less the mean over all tokens; squared_norm: the sum of their squares.
top_k: one character for each token, 1 for the k tokens with the highest scores, else 0.
compared_ranks compares these.';
