"""Turns parameters into queries for the rows of a view: filters by column, order, pages."""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import orjson

from prunelake.errors import InvalidRequest, OutdatedCursor
from prunelake.identity import content_hash
from prunelake.lake.sql.bound_query import BoundQuery

from .row_filters import CONTROL_PARAMETERS, RowFilter, row_filters, typed_value
from .view_catalog import View

DEFAULT_LIMIT = 100


@dataclass(frozen=True)
class RowPage:
    """A page of a view.

    The rows match all `filters`; `filter_texts` has the parameters behind these. `order` has
    columns, and whether each is in descending order; the key follows. `is_for_spreadsheet`: CSV is
    written without formulas.
    """

    view: View
    filters: Sequence[RowFilter]
    filter_texts: Mapping[str, Sequence[str]]
    order: Sequence[tuple[str, bool]]
    limit: int
    offset: int = 0
    is_for_spreadsheet: bool = False

    # These two take longer than a page of rows in memory, which seldom needs them.
    @cached_property
    def query(self) -> BoundQuery:
        """The query for `limit` + 1 rows: an extra row means a further page."""
        bounds = {"limit": self.limit + 1, "offset": self.offset}
        return _query(self.view, self.filters, self.order, **bounds)

    @cached_property
    def request_hash(self) -> str:
        """The identity of the view, the filters and the order."""
        asked = [self.view.name, sorted(self.filter_texts.items()), self.order]
        return content_hash(asked)[:16]

    def has_more(self, row_count: int) -> bool:
        """Whether further rows follow if `query` gave `row_count` rows."""
        return row_count > self.limit

    def next_cursor(self, snapshot: str, row_count: int) -> str | None:
        """The cursor of the next page if `query` gave `row_count` rows; None on the last page."""
        if not self.has_more(row_count):
            return None
        state = [snapshot, self.request_hash, self.offset + self.limit]
        return base64.urlsafe_b64encode(json.dumps(state).encode()).decode().rstrip("=")


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
    conditions = row_filters(view, filters)
    limit = _limit(controls.get("limit"), max_rows, default_limit)
    order = _order(view, controls.get("order"))
    spreadsheet = typed_value("spreadsheet", "boolean", controls.get("spreadsheet", "false"))
    page = RowPage(view, conditions, filters, order, limit, is_for_spreadsheet=spreadsheet)
    if (cursor := controls.get("cursor")) is None:
        return page
    return replace(page, offset=_offset(cursor, snapshot, page.request_hash))


def _query(
    view: View, filters: Sequence[RowFilter], order: Sequence[tuple[str, bool]], **bounds: int
) -> BoundQuery:
    conditions: list[str] = []
    values: dict[str, Any] = {}
    for number, row_filter in enumerate(filters):
        condition, own = row_filter.sql(f"p{number}")
        conditions.append(condition)
        values |= own
    names = {name for name, _ in order}
    terms = [
        *(f'"{name}"{" desc" if is_down else ""} nulls last' for name, is_down in order),
        *(f'"{name}"' for name in view.key if name not in names),
    ]
    where = f"where {' and '.join(conditions)}\n" if conditions else ""
    sql = f"from {view.name}\n{where}order by {', '.join(terms)}\nlimit $limit offset $offset"
    return BoundQuery(sql, **values, **bounds)


def _limit(text: str | None, max_rows: int, default_limit: int) -> int:
    if text is None:
        return min(default_limit, max_rows)
    limit: int = typed_value("limit", "integer", text)
    if not 1 <= limit <= max_rows:
        raise InvalidRequest(f"limit={limit} is not between 1 and {max_rows}")
    return limit


def _order(view: View, text: str | None) -> list[tuple[str, bool]]:
    """The requested columns, and whether each is in descending order."""
    terms = [] if text is None else text.split(",")
    order = [(term.removeprefix("-"), term.startswith("-")) for term in terms]
    for (name, _), term in zip(order, terms, strict=True):
        if name not in view.columns:
            raise InvalidRequest(
                f"order={text!r}: view {view.name} has no column {term!r}", view.columns
            )
    return order


def _offset(cursor: str, snapshot: str, request_hash: str) -> int:
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
