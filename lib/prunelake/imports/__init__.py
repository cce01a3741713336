"""Import results of other tools as runs of the lake.

`harness`, `inspect_log` and `lighteval` read the log of one model as an `imported_log.ImportedLog`.
`import_logs` makes one run of the logs of several levels. `predictions` does this with files of
answers (`prediction_file`, `prediction_values`, `answers`), and `table` with published metrics. All
write through `imported_run`, which gives the run its identity and analyses it.
"""
