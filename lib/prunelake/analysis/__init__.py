"""Statistics of a run: metrics, tests, correlations, recalibration."""
