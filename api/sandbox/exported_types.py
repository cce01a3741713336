"""The types in which values leave DuckDB, so that no format changes a value."""

import re
from typing import Any

from prunelake.lake.sql.bound_query import sql_identifier

EXACT_TYPES = {
    *("boolean", "float", "double", "decimal", "varchar", "uuid", "enum", "date"),
    *("tinyint", "smallint", "integer", "bigint"),
    *("utinyint", "usmallint", "uinteger", "ubigint"),
    *("timestamp", "timestamp_s", "timestamp_ms", "timestamp with time zone"),
}
"""The types of DuckDB whose values polars and JSON hold unchanged."""


def export_type(kind: Any, is_text: bool) -> str:
    """The SQL type to which a DuckDB type is cast, so that no value changes on the way out.

    Values that polars lacks or would change become text as DuckDB writes it, also within lists,
    structs and maps. In text formats, bytes and the keys of maps become text too.
    """
    name = kind.id
    if name in EXACT_TYPES or (name == "blob" and not is_text):
        return str(kind)
    if name == "hugeint":
        # polars would round the largest values; this cast refuses them.
        return "DECIMAL(38,0)"
    if name == "list":
        return f"{export_type(kind.child, is_text)}[]"
    if name == "array":
        (_, child), (_, size) = kind.children
        return f"{export_type(child, is_text)}[{size}]"
    if name == "struct" and kind.children:
        fields = (
            f"{sql_identifier(field)} {export_type(field_type, is_text)}"
            for field, field_type in kind.children
        )
        return f"STRUCT({', '.join(fields)})"
    if name == "map":
        key = "VARCHAR" if is_text else export_type(kind.key, is_text)
        return f"MAP({key}, {export_type(kind.value, is_text)})"
    return "VARCHAR"


def type_name(kind: str) -> str:
    """A type as `GET /views` writes it: in lower case, except names and values in quotes."""
    pieces = re.findall(r"""'[^']*'|"[^"]*"|[^'"]+""", kind)
    return "".join(piece if piece[0] in "'\"" else piece.lower() for piece in pieces)
