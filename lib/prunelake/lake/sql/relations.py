"""The SQL of the relations `lake.*`: each table of the lake over its Parquet files."""

from collections.abc import Sequence

import polars as pl

from prunelake.lake.files.findings import finding_of
from prunelake.lake.files.manifests import Damage, StoredManifest
from prunelake.lake.sql.bound_query import sql_literal
from prunelake.lake.storage.location import Location, relative_name
from prunelake.schema.table import METRIC_KEY, Table

DUCKDB_TYPES: dict[pl.datatypes.DataTypeClass, str] = {
    pl.String: "varchar",
    pl.Int32: "integer",
    pl.Int64: "bigint",
    pl.Float32: "float",
    pl.Float64: "double",
    pl.Boolean: "boolean",
    pl.Datetime: "timestamp with time zone",
}


def relation_sql(table: Table, sources: Sequence[tuple[Location, StoredManifest]]) -> str:
    """The statement that creates the view `lake.<table>` over files and their manifests."""
    return f"create or replace view lake.{table.name} as {rows_sql(table, sources)}"


def rows_sql(table: Table, sources: Sequence[tuple[Location, StoredManifest]]) -> str:
    """The query for the rows of a table in files.

    A view takes no parameters, so paths and run ids are written out as literals. The files hold ''
    for a method, operator or variant that does not apply; the relation has null, as all views do.
    """
    columns = ", ".join(_column_sql(table, name) for name in table.schema)
    whole = [path for path, manifest in sources if manifest.run_ids == manifest.all_run_ids]
    selects = [_select_sql(columns, whole)] if whole else []
    selects += [
        f"{_select_sql(columns, [path])} "
        f"where {table.owner_column} in {sql_literal(sorted(manifest.run_ids))}"
        for path, manifest in sources
        if manifest.run_ids != manifest.all_run_ids
    ]
    if not selects:
        nulls = ", ".join(f"null::{_duckdb_type(t)} as {name}" for name, t in table.schema.items())
        selects = [f"select {nulls} where false"]
    return " union all ".join(selects)


def damaged_files_sql(lake: Location | None, damaged: Sequence[Damage]) -> str:
    """The statement that creates the view `lake.damaged_files`: a row for each run that is hidden.

    A damaged file that hides an unknown number of runs has one row without a run.
    """
    columns = ("run_id", "file", "problem", "remedy")
    rows: list[tuple[str | None, ...]] = [
        (owner or None, relative_name(damage.file, lake), damage.problem, finding_of(damage).remedy)
        for damage in damaged
        for owner in sorted(damage.owners) or [""]
        if lake is not None
    ]
    shown = rows or [(None,) * len(columns)]
    values = ", ".join(f"({', '.join(map(sql_literal, row))})" for row in shown)
    names = ", ".join(f"{name}::varchar as {name}" for name in columns)
    return (
        f"create or replace view lake.damaged_files as select {names} "
        f"from (values {values}) as rows ({', '.join(columns)}) where {sql_literal(bool(rows))}"
    )


def _column_sql(table: Table, name: str) -> str:
    is_empty_in_files = name in METRIC_KEY and set(METRIC_KEY) <= set(table.key)
    return f"nullif({name}, '') as {name}" if is_empty_in_files else name


def _select_sql(columns: str, paths: Sequence[Location]) -> str:
    files = sql_literal([str(path) for path in paths])
    return f"select {columns} from read_parquet({files}, hive_partitioning = false)"


def _duckdb_type(dtype: pl.DataType | pl.datatypes.DataTypeClass) -> str:
    if isinstance(dtype, pl.List):
        return f"{_duckdb_type(dtype.inner)}[]"
    if isinstance(dtype, pl.Struct):
        fields = (f'"{field.name}" {_duckdb_type(field.dtype)}' for field in dtype.fields)
        return f"struct({', '.join(fields)})"
    return DUCKDB_TYPES[dtype.base_type()]
