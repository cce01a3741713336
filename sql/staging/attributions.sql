create view attributions as
with checked as (
    select
        run_id,
        level,
        example_id,
        method,
        seed,
        target,
        scores,
        -- DuckDB orders NaN above every number.
        coalesce(
            isfinite(list_min(scores))
            and isfinite(list_max(scores))
            and list_count(scores) = len(scores),
            false
        ) as is_finite
    from lake.attributions
),

prompts as (
    select
        run_id,
        example_id,
        len(prompt_tokens) as token_count
    from lake.examples
)

select
    checked.run_id,
    runs.model,
    runs.strategy,
    runs.task,
    checked.level,
    checked.example_id,
    checked.method,
    checked.seed,
    checked.target,
    checked.scores,
    coalesce(named.shares_tokens, true) as shares_tokens,
    case
        when not checked.is_finite then 'an attribution score is NaN, infinite or missing'
        when
            coalesce(named.shares_tokens, true)
            and len(checked.scores) != nullif(prompts.token_count, 0)
            then 'its attribution has another number of tokens than the prompt'
    end as problem
from checked
inner join lake.runs as runs on checked.run_id = runs.run_id
left join lake.levels as named
    on checked.run_id = named.run_id and checked.level = named.level
left join prompts
    on checked.run_id = prompts.run_id and checked.example_id = prompts.example_id;

comment on view attributions is
'run x level x example x method x seed. One score for each prompt token: how many nats the token
adds to the log-likelihood of the target option. shares_tokens: the prompt has the same tokens as at
level 0 (see levels). problem: why the attribution is not compared with others (see excluded); null
if there is no problem.';
