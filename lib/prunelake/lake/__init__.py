"""The lake: the evidence of all runs as Parquet files, in a folder or under a prefix of a store.

    <lake>/<table>/<run_id>.parquet         the rows of one run
    <lake>/<table>/segment-<hash>.parquet   the rows of many runs, merged by `compact`
    <lake>/<table>/<profile_id>.parquet     the rows of one profile
    <lake>/.shards/<run_id>/                the finished shards of a run that is being computed
    <lake>/.watch/<key>.json                the attempts of `prunelake watch`
    <lake>/.quarantine/<time>/              damaged files that `prunelake doctor` moved aside
    <lake>/prunelake.duckdb                 the published snapshot

Tables come in groups: the tables of a run, of its analysis, and of a profile. Each group has a
manifest table (`runs`, `analyses`, `profiles`). Its file, the manifest, is written last. It lists
the data files of its run with their row counts and checksums. The run exists as soon as its
manifest exists. Readers see exactly the files that manifests list. If a run has files of its own
and rows in a segment, readers use its own files.

A local file is written under a temporary name and renamed, and a lock keeps writers apart. A store
cannot rename, and a writer may lose its lock there. So the name of a data file in a store contains
the first digits of its SHA-256 (`<run_id>.<hash>.parquet`), and a manifest is only created if it
does not exist. The first of two writers wins, and nobody can change the files that it lists.
"""
