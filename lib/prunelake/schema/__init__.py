"""The schema of the lake, on which all packages agree.

`run_tables`, `analysis_tables` and `profile_tables` define tables: a sweep writes the first, the
analysis the second, `prunelake profile` the third; `tables` joins them. `metrics` defines each
metric. `verdicts` and `calibrators` name the values of columns. `row_formats` encodes rows for
programs, `number_texts` writes numbers for people.
"""
