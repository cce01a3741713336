"""A sweep: from a spec to a complete run in the lake.

`run.run_sweep` goes through the steps of `steps`: plan (`plan`), order the layers (`reuse` finds a
known order), find the known cells (`reuse`), measure each shard (`shards`, `evaluate`), commit
(`run_rows`) and analyse. An `executor` decides where a step runs. `until_decided` repeats sweeps
with more rows. `found_order` gives exports and profiles an order without a sweep.
"""
