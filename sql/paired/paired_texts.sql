create view paired_texts as
with pairs as (
    select
        pruned.*,
        unpruned.prompt_nll as unpruned_prompt_nll,
        unpruned.perplexity as unpruned_perplexity,
        unpruned.generated as unpruned_generated,
        unpruned.repetition as unpruned_repetition,
        unpruned.generated_ids as unpruned_ids,
        greatest(pruned.generated_tokens, unpruned.generated_tokens) as longer
    from texts as pruned
    inner join texts as unpruned
        on
            pruned.run_id = unpruned.run_id
            -- These follow from the run; a filter by them thereby reaches level 0, too.
            and pruned.model = unpruned.model
            and pruned.strategy = unpruned.strategy
            and pruned.task = unpruned.task
            and pruned.example_id = unpruned.example_id
            and unpruned.level = 0
),

compared as (
    select
        *,
        -- Behind the end of a list stands null, so the shorter text differs there.
        coalesce(
            list_position(
                list_transform(
                    range(1, longer + 1),
                    lambda i: generated_ids[i] is distinct from unpruned_ids[i]
                ),
                true
            ) - 1,
            longer
        ) as common_tokens
    from pairs
)

select
    run_id,
    model,
    strategy,
    task,
    level,
    example_id,
    generated,
    unpruned_generated,
    generated_tokens,
    case
        when not shares_tokens then null
        when longer = 0 then 1.0
        else common_tokens / longer
    end as agreement,
    repetition,
    unpruned_repetition,
    perplexity,
    unpruned_perplexity,
    prompt_nll,
    unpruned_prompt_nll,
    predicted_tokens
from compared;

comment on view paired_texts is
'run x level x example. Each text beside the text of the same example at level 0 (unpruned_*).
agreement: the number of tokens until the two texts differ, divided by the tokens of the longer
text; 1 if both are empty, null if the level has other tokens than level 0.';
