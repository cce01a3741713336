"""The lake: the evidence of all runs as Parquet files, in a folder or under a prefix of a store.

    <lake>/<table>/<entry>.<generation>.<hash>.parquet   rows of a run, or of many runs
    <lake>/runs/<run_id>.<generation>.json               the manifest of a run
    <lake>/runs/segment-<hash>.1.json                    of many runs, merged by `compact`
    <lake>/analyses/<run_id>-<commit>-v<version>.1.json  of an analysis
    <lake>/profiles/<profile_id>.1.json                  of a profile
    <lake>/<table>/<entry>.<generation>.retired          hides a manifest for good
    <lake>/.shards/<run_id>/                             the finished shards of an unfinished run
    <lake>/.watch/<key>.json                             the attempts of `prunelake watch`
    <lake>/.quarantine/<time>/                           damaged files, moved aside
    <lake>/.verified                                     the local files whose hash was compared
    <lake>/prunelake.duckdb                              the published snapshot

One protocol serves folders and stores:

- A data file is named by its content, and never changes.
- A manifest lists the data files of a run with their hashes. It is written last, on the condition
  that it does not exist. The run is visible from then on. If many writers race, the first wins.
- No process overwrites or deletes visible files. `retire` and `doctor` hide a manifest by a mark,
  and `compact` merges runs into a segment, which readers prefer. `prunelake gc` deletes files that
  no reader needs, after a grace period. Before it deletes the files of a writer that has not
  committed, it creates a void manifest in the place of the writer's manifest. A writer that wakes
  up later fails to commit, and starts again as the next generation.
- Locks and leases only avoid duplicate work.
- Readers compare every data file with its hash once. A damaged file hides its run, which the view
  `damaged_runs` lists. Everything else can be read.
"""
