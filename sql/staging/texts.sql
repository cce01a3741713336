create view texts as
with ngrams as (
    select
        *,
        list_transform(
            range(1, len(generated_ids) - 2), lambda i: list_slice(generated_ids, i, i + 3)
        ) as fourgrams
    from lake.texts
)

select
    ngrams.run_id,
    runs.model,
    runs.strategy,
    runs.task,
    ngrams.level,
    ngrams.example_id,
    ngrams.prompt_nll,
    ngrams.predicted_tokens,
    case
        when ngrams.predicted_tokens > 0 then exp(ngrams.prompt_nll / ngrams.predicted_tokens)
    end as perplexity,
    ngrams.generated,
    ngrams.generated_ids,
    len(ngrams.generated_ids) as generated_tokens,
    case
        when len(ngrams.fourgrams) = 0 then 0.0
        else 1 - len(list_distinct(ngrams.fourgrams)) / len(ngrams.fourgrams)
    end as repetition,
    coalesce(named.shares_tokens, true) as shares_tokens
from ngrams
inner join lake.runs as runs on ngrams.run_id = runs.run_id
left join lake.levels as named
    on ngrams.run_id = named.run_id and ngrams.level = named.level;

comment on view texts is
'run x level x example. The likelihood of a prompt, and its greedy continuation. prompt_nll: the
nats of the predicted_tokens of the prompt (all tokens; without special tokens in front, all but the
first); perplexity: exp(prompt_nll / predicted_tokens). generated: the greedy continuation of the
prompt, in which tokens that end a text are never chosen. repetition: the share of its runs of 4
tokens that occurred before, 0 if it is shorter than 4 tokens. shares_tokens: the prompt has the
same tokens as at level 0 (see levels).';
