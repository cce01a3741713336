"""The OpenAPI of the views: their columns, filters and formats."""

from collections.abc import Iterator
from typing import Any

from prunelake.schema.row_formats import MEDIA_TYPES, RowFormat

from ..queries.view_rows import DEFAULT_LIMIT, SQL_OPERATORS, View

JSON_TYPES: dict[str, dict[str, Any]] = {
    "varchar": {"type": "string"},
    "boolean": {"type": "boolean"},
    "integer": {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1},
    "bigint": {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
    "double": {"type": "number"},
    "float": {"type": "number"},
    "timestamp with time zone": {"type": "string", "format": "date-time"},
}
"""The JSON schema of each type of a column."""

ROW_RESPONSE_HEADERS = {
    "ETag": {
        "description": "The snapshot's id; send it as If-None-Match.",
        "required": True,
        "schema": {"type": "string"},
    },
    "PruneLake-Snapshot": {
        "description": "The snapshot's id.",
        "required": True,
        "schema": {"type": "string"},
    },
    "Link": {
        "description": 'The next page, with rel="next"; absent on the last.',
        "schema": {"type": "string"},
    },
}


def view_content(view: View) -> dict[str, Any]:
    """A page of a view's rows in each format, by media type."""
    row = {
        "type": "object",
        "properties": {name: _column_schema(kind) for name, kind in view.columns.items()},
        "required": list(view.columns),
        "additionalProperties": False,
    }
    page = {
        "type": "object",
        "properties": {
            "view": {"type": "string", "const": view.name},
            "snapshot": {"type": "string", "description": "Id of the snapshot."},
            "next": {
                "type": ["string", "null"],
                "description": "The cursor of the next page; null on the last.",
            },
            "rows": {"type": "array", "items": row},
        },
        "required": ["view", "snapshot", "next", "rows"],
        "additionalProperties": False,
    }
    return {"application/json": {"schema": page}} | other_formats_content()


def other_formats_content() -> dict[str, Any]:
    """Rows in the formats other than JSON, by media type."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    formats = (RowFormat.ndjson, RowFormat.parquet, RowFormat.arrow)
    text = {"text/csv": {"schema": {"type": "string"}}}
    return text | {MEDIA_TYPES[format]: binary for format in formats}


def view_parameters(view: View, max_rows: int) -> Iterator[dict[str, Any]]:
    """The query parameters of a view: its filters, then order, limit, cursor and format."""
    filter_types = dict.fromkeys(view.run_columns, "varchar") | {
        name: kind for name, kind in view.columns.items() if kind in JSON_TYPES
    }
    for name, kind in filter_types.items():
        description = "Any of these values."
        if name not in view.run_columns:
            suffixes = ["null", "ne"]
            if kind not in ("varchar", "boolean"):
                suffixes += [suffix for suffix in SQL_OPERATORS if suffix != "ne"]
            description += f" Also {', '.join(f'{name}_{suffix}' for suffix in suffixes)}."
        schema = {"type": "array", "items": JSON_TYPES[kind]}
        yield _parameter(name, schema, description, explode=True)
    sort_terms = [f"{minus}{name}" for name in view.columns for minus in ("", "-")]
    yield _parameter(
        "order",
        {"type": "array", "items": {"type": "string", "enum": sort_terms}, "minItems": 1},
        "Columns to sort by, separated by commas; a minus in front sorts descending.",
        explode=False,
        example=sort_terms[1:2],
    )
    yield _parameter(
        "limit",
        {"type": "integer", "minimum": 1, "maximum": max_rows},
        f"Rows of a page; {DEFAULT_LIMIT} by default.",
        example=10,
    )
    yield _parameter(
        "cursor",
        {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"},
        "The value of `next` on the page before.",
    )
    yield _parameter(
        "format",
        {"type": "string", "enum": [format.value for format in RowFormat]},
        "The format of the rows; the Accept header works too. JSON by default.",
    )


def _parameter(
    name: str, schema: dict[str, Any], description: str, **options: Any
) -> dict[str, Any]:
    parameter = {"name": name, "in": "query", "required": False, "schema": schema}
    return parameter | {"description": description} | options


def _column_schema(kind: str) -> dict[str, Any]:
    if kind.endswith("[]"):
        return {"type": ["array", "null"], "items": _column_schema(kind[:-2])}
    schema = JSON_TYPES[kind]
    return schema | {"type": [schema["type"], "null"]}
