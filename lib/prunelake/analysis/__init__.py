"""Statistics of a run: from the view `example_metrics` to the tables beside the run.

`analyse.analyse` reads arrays (`example_scores`, `text_scores`), draws resamples (`bootstrap`, with
`calibration` for metrics that are no means), and writes `metric_rows`, correlations (`correlation`)
and `recalibration`. `statistics` has intervals and tests, `looks` and `sequential` the design of
sweeps until decided. `power` and `flip_forecast` serve plans.
"""
