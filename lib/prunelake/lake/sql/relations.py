"""The SQL of the relations `lake.*`: each table of the lake over its Parquet files."""

from collections.abc import Sequence

import polars as pl

from prunelake.lake.files.manifests import Manifest
from prunelake.lake.sql.bound_query import sql_literal
from prunelake.lake.storage.location import Location
from prunelake.schema.table import METRIC_KEY, Table

DUCKDB_TYPES = {
    pl.String(): "varchar",
    pl.Int32(): "integer",
    pl.Int64(): "bigint",
    pl.Float32(): "float",
    pl.Float64(): "double",
    pl.Boolean(): "boolean",
    pl.Datetime("us", "UTC"): "timestamp with time zone",
}


def relation_sql(table: Table, sources: Sequence[tuple[Location, Manifest]]) -> str:
    """The statement that creates the view `lake.<table>` over files and their manifests.

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
    return f"create or replace view lake.{table.name} as {' union all '.join(selects)}"


def _column_sql(table: Table, name: str) -> str:
    is_empty_in_files = name in METRIC_KEY and set(METRIC_KEY) <= set(table.key)
    return f"nullif({name}, '') as {name}" if is_empty_in_files else name


def _select_sql(columns: str, paths: Sequence[Location]) -> str:
    files = sql_literal([str(path) for path in paths])
    return f"select {columns} from read_parquet({files}, hive_partitioning = false)"


def _duckdb_type(dtype: pl.DataType) -> str:
    if isinstance(dtype, pl.List):
        return f"{_duckdb_type(_dtype_instance(dtype.inner))}[]"
    if isinstance(dtype, pl.Struct):
        fields = (
            f'"{field.name}" {_duckdb_type(_dtype_instance(field.dtype))}' for field in dtype.fields
        )
        return f"struct({', '.join(fields)})"
    return DUCKDB_TYPES[dtype]


def _dtype_instance(dtype: pl.DataType | pl.datatypes.DataTypeClass) -> pl.DataType:
    return dtype if isinstance(dtype, pl.DataType) else dtype()
