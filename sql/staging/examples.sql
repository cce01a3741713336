create view examples as
select
    examples.run_id,
    runs.model,
    runs.strategy,
    runs.task,
    examples.example_id,
    examples.position,
    examples.prompt,
    examples.options,
    examples.gold,
    examples.prompt_tokens
from lake.examples as examples
inner join lake.runs as runs on examples.run_id = runs.run_id;

comment on view examples is
'run x example. The prompt, its options and the right one (gold). prompt_tokens are the texts of
the tokens that attributions score.';
