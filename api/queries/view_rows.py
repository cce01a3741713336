"""Turns parameters into queries for the rows of a view: filters by column, order, pages."""

import base64
import binascii
import json
import math
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from prunelake.errors import InvalidRequest, NotFound, OutdatedCursor
from prunelake.identity import content_hash
from prunelake.lake.sql import views
from prunelake.lake.sql.bound_query import BoundQuery

SQL_OPERATORS = {"ne": "is distinct from", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
FILTER_SUFFIXES = {
    "varchar": ("ne", "null"),
    "boolean": ("null",),
    **dict.fromkeys(
        ("integer", "bigint", "double", "float", "timestamp with time zone"),
        ("ne", "lt", "lte", "gt", "gte", "null"),
    ),
}
"""The suffixes of a column's filters, by its type; lists and structs have only `null`."""

CONTROL_PARAMETERS = ("order", "limit", "cursor", "format", "spreadsheet")
DEFAULT_LIMIT = 100
INTEGER_BITS = {"integer": 31, "bigint": 63}
NON_NUMERIC = re.compile("[^-+.0-9eE]")
"""Characters that only Python accepts in numbers: 1_000, digits of other scripts."""


@dataclass(frozen=True)
class View:
    """A view of the lake: its columns (name to type) in order; the comment states the grain."""

    name: str
    comment: str
    columns: Mapping[str, str]

    @property
    def key(self) -> tuple[str, ...]:
        """The columns that identify a row: all except lists; measurements come last."""
        plain = [name for name, kind in self.columns.items() if kind in FILTER_SUFFIXES]
        return tuple(sorted(plain, key=lambda name: self.columns[name] in ("double", "float")))

    @property
    def run_columns(self) -> tuple[str, ...]:
        """Columns of `runs` that can filter the rows although the view lacks them."""
        if "run_id" not in self.columns:
            return ()
        return tuple(name for name in ("model", "strategy", "task") if name not in self.columns)


@dataclass(frozen=True)
class RowPage:
    """A page of a view. `query` asks for `limit` + 1 rows: an extra row means a further page.

    `is_for_spreadsheet`: CSV is written without formulas.
    """

    query: BoundQuery
    limit: int
    offset: int
    request_hash: str
    is_for_spreadsheet: bool = False

    def has_more(self, row_count: int) -> bool:
        """Whether further rows follow if `query` gave `row_count` rows."""
        return row_count > self.limit

    def next_cursor(self, snapshot: str, row_count: int) -> str | None:
        """The cursor of the next page if `query` gave `row_count` rows; None on the last page."""
        if not self.has_more(row_count):
            return None
        state = [snapshot, self.request_hash, self.offset + self.limit]
        return base64.urlsafe_b64encode(json.dumps(state).encode()).decode().rstrip("=")


@cache
def all_views() -> Mapping[str, View]:
    """Every view of this version by name."""
    with tempfile.TemporaryDirectory() as empty, views.connect(Path(empty)) as connection:
        described = views.describe_views(connection).to_dicts()
    return {
        row["view"]: View(
            row["view"], row["comment"], {c["name"]: c["type"] for c in row["columns"]}
        )
        for row in described
    }


def view_named(name: str) -> View:
    """A view by name.

    Raises:
        NotFound: no such view; the choices are all views.
    """
    if name not in all_views():
        raise NotFound(f"no view {name!r}; GET /views describes them", all_views())
    return all_views()[name]


def row_page(
    view: View,
    parameters: Sequence[tuple[str, str]],
    snapshot: str,
    max_rows: int,
    default_limit: int = DEFAULT_LIMIT,
) -> RowPage:
    """The page of a view that URL parameters ask for.

    `level=0&level=4` selects either level, `level_lte=8` compares (`FILTER_SUFFIXES`), and
    `metric_null=true` selects missing values; a row has to match all filters. A view with run ids
    can also be filtered by the run's model, strategy or task. `order=-level,metric` or
    `order=-level&order=metric` sorts; equal rows are ordered by the key, so that pages never
    overlap.

    Raises:
        InvalidRequest: an unknown parameter, or an invalid value.
        OutdatedCursor: a cursor of another snapshot.
    """
    controls: dict[str, str] = {}
    filters: dict[str, list[str]] = {}
    for name, value in parameters:
        if name not in CONTROL_PARAMETERS:
            filters.setdefault(name, []).append(value)
        elif name == "order" and name in controls:
            controls[name] += f",{value}"
        elif name in controls:
            raise InvalidRequest(f"{name} is given twice")
        else:
            controls[name] = value
    conditions, values = _conditions(view, filters)
    limit = _limit(controls.get("limit"), max_rows, default_limit)
    order = _order(view, controls.get("order"))
    request_hash = content_hash([view.name, sorted(filters.items()), order])[:16]
    offset = _offset(controls.get("cursor"), snapshot, request_hash)
    where = f"where {' and '.join(conditions)}\n" if conditions else ""
    sql = f"from {view.name}\n{where}order by {', '.join(order)}\nlimit $limit offset $offset"
    query = BoundQuery(sql, **values, limit=limit + 1, offset=offset)
    spreadsheet = _value("spreadsheet", "boolean", controls.get("spreadsheet", "false"))
    return RowPage(query, limit, offset, request_hash, spreadsheet)


def _conditions(view: View, filters: Mapping[str, list[str]]) -> tuple[list[str], dict[str, Any]]:
    conditions: list[str] = []
    values: dict[str, Any] = {}
    for parameter, texts in filters.items():
        if parameter in view.run_columns:
            name = f"p{len(values)}"
            values[name] = texts
            named = f"select run_id from runs where list_contains(${name}, {parameter})"
            conditions.append(f"run_id in ({named})")
            continue
        column, suffix = _column(view, parameter)
        kind = view.columns[column]
        name = f"p{len(values)}"
        if suffix == "null":
            is_null = _value(parameter, "boolean", _only_value(parameter, texts))
            conditions.append(f'"{column}" is {"" if is_null else "not "}null')
        elif suffix == "":
            # DuckDB skips row groups by `in`, but not by list_contains.
            names = [f"{name}_{number}" for number in range(len(texts))]
            given = (_value(parameter, kind, text) for text in texts)
            values |= dict(zip(names, given, strict=True))
            conditions.append(f'"{column}" in ({", ".join(f"${n}::{kind}" for n in names)})')
        else:
            values[name] = _value(parameter, kind, _only_value(parameter, texts))
            conditions.append(f'"{column}" {SQL_OPERATORS[suffix]} ${name}::{kind}')
    return conditions, values


def _column(view: View, parameter: str) -> tuple[str, str]:
    """The column and the suffix of a filter; the suffix is empty for equality."""
    if FILTER_SUFFIXES.get(view.columns.get(parameter, "")):
        return parameter, ""
    column, _, suffix = parameter.rpartition("_")
    if column in view.columns and suffix in FILTER_SUFFIXES.get(view.columns[column], ("null",)):
        return column, suffix
    if parameter in view.columns:
        raise InvalidRequest(
            f"{parameter} is of type {view.columns[parameter]}: the only filter is {parameter}_null"
        )
    choices = [*filter_names(view), *CONTROL_PARAMETERS]
    raise InvalidRequest(f"view {view.name} has no parameter {parameter!r}", choices)


def filter_names(view: View) -> list[str]:
    """The parameters that filter a view."""
    return [
        *view.run_columns,
        *(
            name
            for column, kind in view.columns.items()
            for name in (
                *([column] if kind in FILTER_SUFFIXES else []),
                *(f"{column}_{suffix}" for suffix in FILTER_SUFFIXES.get(kind, ("null",))),
            )
        ),
    ]


def _only_value(parameter: str, texts: list[str]) -> str:
    if len(texts) > 1:
        raise InvalidRequest(f"{parameter} is given twice")
    return texts[0]


def _value(parameter: str, kind: str, text: str) -> Any:
    try:
        if kind == "boolean":
            return {"true": True, "false": False}[text.lower()]
        if kind in (*INTEGER_BITS, "double", "float") and NON_NUMERIC.search(text):
            raise ValueError
        if kind in INTEGER_BITS:
            number = int(text)
            if not -(2 ** INTEGER_BITS[kind]) <= number < 2 ** INTEGER_BITS[kind]:
                raise ValueError
            return number
        if kind in ("double", "float"):
            if not math.isfinite(float(text)):
                raise ValueError
            return float(text)
        if kind == "timestamp with time zone":
            at = datetime.fromisoformat(text)
            if at.tzinfo is None:
                raise ValueError
            return at
    except (ValueError, KeyError, OverflowError) as error:
        expected = {
            "boolean": "true or false",
            "timestamp with time zone": "a time like 2026-01-31T12:00:00Z (in a URL, + is %2B)",
            **{kind: f"a whole number of {bits + 1} bits" for kind, bits in INTEGER_BITS.items()},
        }.get(kind, "a number")
        raise InvalidRequest(f"{parameter}={text!r} is not {expected}") from error
    return text


def _limit(text: str | None, max_rows: int, default_limit: int) -> int:
    if text is None:
        return min(default_limit, max_rows)
    limit: int = _value("limit", "integer", text)
    if not 1 <= limit <= max_rows:
        raise InvalidRequest(f"limit={limit} is not between 1 and {max_rows}")
    return limit


def _order(view: View, text: str | None) -> list[str]:
    terms = [] if text is None else text.split(",")
    names = [term.removeprefix("-") for term in terms]
    for name, term in zip(names, terms, strict=True):
        if name not in view.columns:
            raise InvalidRequest(
                f"order={text!r}: view {view.name} has no column {term!r}", view.columns
            )
    return [
        *(
            f'"{name}"{" desc" if term.startswith("-") else ""} nulls last'
            for name, term in zip(names, terms, strict=True)
        ),
        *(f'"{name}"' for name in view.key if name not in names),
    ]


def _offset(cursor: str | None, snapshot: str, request_hash: str) -> int:
    if cursor is None:
        return 0
    try:
        # Unlike json, orjson refuses deeply nested text with a ValueError.
        cursor_snapshot, cursor_hash, offset = orjson.loads(
            base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        )
        if not isinstance(offset, int) or not 0 <= offset < 2**63:
            raise ValueError
    except (ValueError, TypeError, binascii.Error) as error:
        raise InvalidRequest(f"cursor={cursor!r} is not a cursor of this server") from error
    if cursor_snapshot != snapshot:
        raise OutdatedCursor(
            "a new snapshot has been published since the first page; start again without cursor"
        )
    if cursor_hash != request_hash:
        raise InvalidRequest(
            "the cursor belongs to other filters or another order; start without it"
        )
    return offset
