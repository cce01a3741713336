"""Prefect around the library: schedules, retries, artifacts and events.

A flow calls the library's own functions: `sweep`, `sweeps`, `compare` and `until_decided` evaluate,
`watch` starts evaluations, `publish`, `doctor` and `cost` maintain. `executor` runs the steps of a
sweep as `tasks`. `prefect.yaml` schedules the flows.
"""
