"""Tasks: from a name to examples as token ids.

`catalogue` finds the YAML file of a task (`harness` a task of lm-evaluation-harness), `rows` reads
its dataset (through `hub`) and makes examples, `row_selection` selects among them, and `encoding`
tokenises them. `search_split` draws other rows for strategies that search. `calibration_text` gives
the text on which importance is measured.
"""
