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
'run x example. What was asked; prompt_tokens are the texts that attributions score.';
