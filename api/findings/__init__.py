"""Sentences about runs and recommendations, from rows of queries.

`selection` finds the run, level and metric that a reader asks for. `run_findings` builds the answer
of /findings: `headline` in one line, `sentences` in detail, `settle` for the next command.
`level_rows` looks values and verdicts up; `wording` and `verdict_labels` have the words.
"""
