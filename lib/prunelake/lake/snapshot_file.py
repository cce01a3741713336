"""Write the file of a snapshot, from all files of a lake or from the previous snapshot."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import duckdb
import polars as pl

from prunelake.lake.files.manifests import StoredManifest, entry_name
from prunelake.lake.files.verified import BlockChecks
from prunelake.lake.read import LakeContent
from prunelake.lake.sql.bound_query import Connection, attach, sql_literal
from prunelake.lake.sql.relations import damaged_files_sql, rows_sql
from prunelake.lake.sql.view_files import view_statements, views_hash
from prunelake.lake.sql.view_template import copy_views
from prunelake.lake.storage.location import Location, copy_file
from prunelake.lake.storage.reading import let_duckdb_read
from prunelake.schema.profile_tables import PROFILE_TABLES
from prunelake.schema.table import FORMAT_VERSION, METRIC_KEY, Table
from prunelake.schema.tables import TABLE_GROUPS

DUCKDB_STORAGE_VERSION = "v1.4.0"
"""The oldest DuckDB that can open a snapshot: an analyst's DuckDB may be older than this one."""

EXPLANATION_VIEWS = ("example_agreement", "example_faithfulness")
"""Stored views with a row for each explanation, too many to be kept in memory."""

VIEWS_BY_RUN = (*EXPLANATION_VIEWS, "correlations", "metrics", "deltas", "headline_keys")
"""Views whose rows of a run depend on no other run: a later snapshot keeps these rows."""

VIEWS_OF_ALL_RUNS = ("verdicts", "headline_metrics")
"""Views with `p_adjusted`, which depends on all runs, as their false discovery rate does."""

MATERIALISED_VIEWS = (*VIEWS_BY_RUN, *VIEWS_OF_ALL_RUNS)
"""Frequent or slow views: a snapshot stores their rows as the table `stored.<view>`."""

ROW_ORDER = ("run_id", "level", "example_id", *METRIC_KEY, "kind", "scope")
"""The order of stored rows: in each view, the key of a row and few other columns."""

VIEWS_OF_ANALYSES = {"compared_ranks": "rank_pairs", "level_overlaps": "overlap_matrix"}
"""Views whose rows every analysis has stored, with the views that have them."""

SNAPSHOT_COMMENT = (
    "one row about this file: snapshot_id is the hash of its runs, analyses and profiles, format "
    "version and analysis version; views_hash is the hash of its views."
)


class Entry(NamedTuple):
    """A run, analysis or profile in a snapshot: its owner table, its owner, and its commit."""

    table: str
    owner_id: str
    commit: str


def entries_of(content: LakeContent) -> set[Entry]:
    """The runs, analyses and profiles of a lake."""
    return {
        Entry(
            group.owner_table.name,
            owner_id,
            f"{entry_name(group, owner_id, owner.commit, manifest.content.analysis_version)} "
            f"{owner.commit} {owner.generation}",
        )
        for group in TABLE_GROUPS
        for manifest in content.group(group)
        for owner_id in manifest.run_ids
        for owner in [manifest.content.owners[owner_id]]
    }


def write_snapshot(
    path: Path, lake: Location, content: LakeContent, snapshot_id: str, previous: Path
) -> None:
    """Write the snapshot of a lake to a new file.

    If `previous` is a snapshot with the same views, only the runs that differ are read. If it is
    damaged, the new file is written from all files of the lake.

    Raises:
        duckdb.Error, OSError: the file cannot be written.
    """
    entries = entries_of(content)
    known = _entries_in(previous)
    # Changing most of a file takes longer than writing a new one.
    if known is not None and 2 * len(known & entries) >= len(entries):
        copy_file(previous, path)
        try:
            with _open(path, lake, content) as snapshot:
                _change(snapshot, content, known, entries)
                _write_row(snapshot, lake, content, snapshot_id, entries)
            return
        except duckdb.Error:  # a block of the previous snapshot is damaged
            path.unlink()
            path.with_name(f"{path.name}.wal").unlink(missing_ok=True)
    with _open(path, lake, content) as snapshot:
        copy_views(snapshot)
        snapshot.execute("create schema stored")
        for group in TABLE_GROUPS:
            for table in group.values():
                # The copied views read empty views with the same columns.
                snapshot.execute(f"drop view lake.{table.name}")
                rows = rows_sql(table, _sources(content, table))
                snapshot.execute(f"create table lake.{table.name} as {rows}")
                grain = sql_literal(table.grain)
                snapshot.execute(f"comment on table lake.{table.name} is {grain}")
        for view, other_view in VIEWS_OF_ANALYSES.items():
            _read_instead(snapshot, view, other_view)
        for view in MATERIALISED_VIEWS:
            _materialise(snapshot, view)
        snapshot.execute(
            "create table snapshot (snapshot_id varchar, created_at timestamp with time zone, "
            "run_count integer, code_version varchar, format_version integer, views_hash varchar)"
        )
        snapshot.execute(f"comment on table snapshot is {sql_literal(SNAPSHOT_COMMENT)}")
        _write_row(snapshot, lake, content, snapshot_id, entries)


def _entries_in(path: Path) -> set[Entry] | None:
    """The entries of a snapshot; None if there is none with the views of this version."""
    try:
        with duckdb.connect() as connection:
            attach(connection, path, "published")
            current = connection.execute(
                "select 1 from published.snapshot where views_hash = ? and format_version = ?",
                [views_hash(), FORMAT_VERSION],
            ).fetchall()
            if not current:
                return None
            rows = connection.sql("from published.stored.entries").fetchall()
            return {Entry(*row) for row in rows}
    except duckdb.Error:
        return None


@contextmanager
def _open(path: Path, lake: Location, content: LakeContent) -> Iterator[Connection]:
    with duckdb.connect(
        path,
        config={
            "python_enable_replacements": "false",
            "storage_compatibility_version": DUCKDB_STORAGE_VERSION,
            # `install` syncs the file once, before it gets its name.
            "fsync_mode": "NONE",
            # The order of the rows in files means nothing, and threads need not wait for it.
            "preserve_insertion_order": "false",
        },
    ) as snapshot:
        let_duckdb_read(snapshot, lake, BlockChecks(content.listed))
        snapshot.execute("set TimeZone = 'UTC'")
        snapshot.execute("set enable_progress_bar = false")
        yield snapshot


def _change(
    snapshot: Connection, content: LakeContent, known: set[Entry], entries: set[Entry]
) -> None:
    """Replace the rows of the entries that differ, and the stored rows of views."""
    changed_runs: set[str] = set()
    for group in TABLE_GROUPS:
        name = group.owner_table.name
        removed = {entry.owner_id for entry in known - entries if entry.table == name}
        added = {entry.owner_id for entry in entries - known if entry.table == name}
        if group is not PROFILE_TABLES:
            changed_runs |= removed | added
        for table in group.values():
            if removed:
                condition = f"{group.owner_column} in {sql_literal(sorted(removed))}"
                snapshot.execute(f"delete from lake.{table.name} where {condition}")
            sources = _sources(content, table, added)
            if sources:
                snapshot.execute(f"insert into lake.{table.name} {rows_sql(table, sources)}")
    for view in MATERIALISED_VIEWS:
        _restore_view(snapshot, view)
    for view in VIEWS_BY_RUN:
        _materialise(snapshot, view, changed_runs)
    changed_runs |= _adjust_p_values(snapshot)
    _materialise(snapshot, "verdicts", changed_runs, "judged")
    _materialise(snapshot, "headline_metrics", changed_runs)


def _adjust_p_values(snapshot: Connection) -> set[str]:
    """Store the new `p_adjusted` of all rows; return the runs that also differ in other columns.

    All rows of `verdicts` are then in the table `judged`.
    """
    snapshot.execute("create temp table judged as from verdicts")
    hashes = "select run_id, bit_xor(hash(*columns(* exclude p_adjusted))) from {} group by run_id"
    changed = snapshot.execute(
        f"select run_id from ({hashes.format('judged')} except {hashes.format('stored.verdicts')})"
    ).fetchall()
    for view in VIEWS_OF_ALL_RUNS:
        same_row = " and ".join(
            f"stored.{view}.{name} is not distinct from judged.{name}"
            for name in ("run_id", "level", *METRIC_KEY)
        )
        snapshot.execute(
            f"update stored.{view} set p_adjusted = judged.p_adjusted from judged where {same_row}"
        )
    return {run_id for (run_id,) in changed}


def _sources(
    content: LakeContent, table: Table, owner_ids: set[str] | None = None
) -> list[tuple[Location, StoredManifest]]:
    """The files with rows of a table, of all or the given runs (or profiles)."""
    chosen = [
        (
            path.resolve(),
            manifest
            if owner_ids is None
            else replace(manifest, run_ids=manifest.run_ids & owner_ids),
        )
        for path, manifest in content.files(table)
    ]
    return [(path, manifest) for path, manifest in chosen if manifest.run_ids]


def _write_row(
    snapshot: Connection,
    lake: Location,
    content: LakeContent,
    snapshot_id: str,
    entries: set[Entry],
) -> None:
    """Store the damaged files, the entries, and the row `snapshot`."""
    _store_damaged_files(snapshot, lake, content)
    rows = pl.DataFrame(sorted(entries), dict.fromkeys(Entry._fields, pl.String), orient="row")
    _store_frame(snapshot, "stored.entries", rows)
    run_count = sum(len(manifest.run_ids) for manifest in content.runs)
    snapshot.execute("delete from snapshot")
    snapshot.execute(
        "insert into snapshot values (?, ?, ?, ?, ?, ?)",
        [
            snapshot_id,
            datetime.now(UTC),
            run_count,
            version("prunelake"),
            FORMAT_VERSION,
            views_hash(),
        ],
    )


def _store_damaged_files(snapshot: Connection, lake: Location, content: LakeContent) -> None:
    """Replace the view, or the table of an earlier snapshot, by a table."""
    known = "select table_type from information_schema.tables where table_name = 'damaged_files'"
    for (kind,) in snapshot.execute(known).fetchall():
        snapshot.execute(f"drop {'view' if kind == 'VIEW' else 'table'} lake.damaged_files")
    snapshot.execute(damaged_files_sql(lake, content.damaged))
    rows = pl.DataFrame(snapshot.sql("from lake.damaged_files").to_arrow_table())
    snapshot.execute("drop view lake.damaged_files")
    _store_frame(snapshot, "lake.damaged_files", rows)


def _store_frame(snapshot: Connection, table: str, rows: pl.DataFrame) -> None:
    snapshot.register("rows_to_store", rows.to_arrow())
    snapshot.execute(f"create or replace table {table} as from rows_to_store")
    snapshot.unregister("rows_to_store")


def _materialise(
    snapshot: Connection, view: str, run_ids: set[str] | None = None, source: str | None = None
) -> None:
    """Store the rows of a view in a table, and let the view read that table; its comment stays.

    With `run_ids` only the rows of these runs are replaced. `source` has the rows of the view.
    """
    order = "order by " + ", ".join(
        name for name in snapshot.sql(f"from {view}").columns if name in ROW_ORDER
    )
    if run_ids is None:
        snapshot.execute(f"create or replace table stored.{view} as from {view} {order}")
    elif run_ids:
        of_runs = f"where run_id in {sql_literal(sorted(run_ids))}"
        snapshot.execute(f"delete from stored.{view} {of_runs}")
        snapshot.execute(f"insert into stored.{view} from {source or view} {of_runs} {order}")
    comment = _read_instead(snapshot, view, f"stored.{view}")
    snapshot.execute(f"comment on table stored.{view} is {sql_literal(comment)}")


def _read_instead(snapshot: Connection, view: str, table: str) -> str:
    """Let a view read a table that has its columns; its comment stays, and is returned."""
    comments = "select comment from duckdb_views() where schema_name = 'main' and view_name = ?"
    ((comment,),) = snapshot.execute(comments, [view]).fetchall()
    columns = ", ".join(snapshot.sql(f"from {view}").columns)
    snapshot.execute(f"create or replace view {view} as select {columns} from {table}")
    snapshot.execute(f"comment on view {view} is {sql_literal(comment)}")
    return str(comment)


def _restore_view(snapshot: Connection, view: str) -> None:
    """Let a view read other views again, as in a new snapshot."""
    statement = next(
        text for text in view_statements() if re.search(rf"create view {view} as\b", text)
    )
    snapshot.execute(re.sub(r"\bcreate (view|macro)\b", r"create or replace \1", statement))
