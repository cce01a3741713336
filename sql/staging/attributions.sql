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
        coalesce(
            list_bool_and(list_transform(scores, lambda x: coalesce(isfinite(x), false))), false
        ) as is_finite
    from lake.attributions
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
            and len(checked.scores) != nullif(len(examples.prompt_tokens), 0)
            then 'its attribution has another number of tokens than the prompt'
    end as problem
from checked
inner join lake.runs as runs on checked.run_id = runs.run_id
left join lake.levels as named
    on checked.run_id = named.run_id and checked.level = named.level
left join lake.examples as examples
    on checked.run_id = examples.run_id and checked.example_id = examples.example_id;

comment on view attributions is
'run x level x example x method x seed. One score for each prompt token: how many nats the token
adds to the log-likelihood of the target option. shares_tokens: the prompt has the same tokens as
at level 0 (see levels). problem: why the attribution is not compared with
others (see excluded); null if there is no problem.';
