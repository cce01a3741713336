"""Plan the evidence: the rows, tokens and minutes that a verdict needs.

`verdict_plan.plan_verdicts` reads the variation of each criterion from earlier runs (`pilots`),
computes the examples that it needs (`criterion_needs`, `flips`) and their price (`cost`,
`gpu_time`).
"""
