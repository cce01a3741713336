create view looks as
select
    looks.run_id,
    runs.model,
    runs.strategy,
    runs.task,
    looks.look,
    looks.look_run_id,
    looks.level,
    looks.metric,
    looks.method,
    looks.operator,
    looks.variant,
    looks.n,
    looks.delta,
    looks.delta_low,
    looks.delta_high,
    looks.equivalence_low,
    looks.equivalence_high,
    looks.p_value,
    looks.decision
from lake.looks as looks
inner join lake.runs as runs on looks.run_id = runs.run_id;

comment on view looks is
'run x look x level x metric (x method, operator, variant) of sequential runs: the result of each
round. look_run_id: the run of the round. The intervals of all looks together hold the truth with a
probability of 95 % (delta_low, delta_high) or 90 % (equivalence_low, equivalence_high). p_value is
the repeated p-value. decision, at the margin of the sweep: equivalent, changed, or null if
undecided.';
