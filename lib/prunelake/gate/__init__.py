"""The gate: from release criteria to passed, failed or undecided.

`gate_file.read_gate` reads the criteria (`criterion`). `check.check_gate` chooses runs of the lake
(`run_choice`, `comparison_choice`), reads the evidence for each criterion (`evidence`,
`differences`), tests it at its margin (`margin_tests`, `decision`) and returns `results`, which
`table_cells` and `reports` write. `measure` and `until_decided` evaluate missing rows first.
"""
