create view examples as
select
    run_id,
    example_id,
    position,
    prompt,
    options,
    gold,
    prompt_tokens
from lake.examples;

comment on view examples is
'run x example. The prompt, its options and the right one (gold). prompt_tokens are the texts of
the tokens that attributions score.';
