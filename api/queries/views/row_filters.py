"""Filters of a view's rows: from the text of a parameter to SQL, or to a test of values."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from prunelake.errors import InvalidRequest

from .view_catalog import FILTER_SUFFIXES, View, filter_names

SQL_OPERATORS = {"ne": "is distinct from", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
CONTROL_PARAMETERS = ("order", "limit", "cursor", "format", "spreadsheet")
"""The parameters that do not filter."""

INTEGERS = {
    "integer": range(-(2**31), 2**31),
    "bigint": range(-(2**63), 2**63),
}
"""The numbers of each integer type."""
NON_NUMERIC = re.compile("[^-+.0-9eE]")
"""Characters that only Python accepts in numbers: 1_000, digits of other scripts."""


@dataclass(frozen=True)
class RowFilter:
    """A condition on a column of type `kind`: the suffix of its parameter, and typed values.

    Without a suffix the column has one of the values. `is_run_column`: the view lacks the column,
    but `runs` has it.
    """

    column: str
    kind: str
    suffix: str
    values: Sequence[Any]
    is_run_column: bool = False

    def sql(self, name: str) -> tuple[str, dict[str, Any]]:
        """The condition, and its values by parameter; the parameters begin with `name`."""
        if self.is_run_column:
            named = f"select run_id from runs where list_contains(${name}, {self.column})"
            return f"run_id in ({named})", {name: list(self.values)}
        if self.suffix == "null":
            return f'"{self.column}" is {"" if self.values[0] else "not "}null', {}
        if self.suffix:
            operator = SQL_OPERATORS[self.suffix]
            return f'"{self.column}" {operator} ${name}::{self.kind}', {name: self.values[0]}
        # DuckDB skips row groups by `in`, but not by list_contains.
        names = [f"{name}_{number}" for number in range(len(self.values))]
        marks = ", ".join(f"${n}::{self.kind}" for n in names)
        return f'"{self.column}" in ({marks})', dict(zip(names, self.values, strict=True))

    def test(self) -> Callable[[Any], bool]:
        """The same condition as a function of a value of this column.

        As in DuckDB, NaN is larger than every number.
        """
        if self.suffix == "null":
            is_null = self.values[0]
            return lambda value: (value is None) == is_null
        wanted = self.values
        if self.kind == "float":
            wanted = [float(np.float32(value)) for value in wanted]
        one = wanted[0]
        match self.suffix:
            case "":
                return set(wanted).__contains__
            case "ne":
                return lambda value: value != one
            case "lt":
                return lambda value: value is not None and value < one
            case "lte":
                return lambda value: value is not None and value <= one
            case "gt":
                return lambda value: value is not None and not value <= one
        return lambda value: value is not None and not value < one


def row_filters(view: View, parameters: Mapping[str, Sequence[str]]) -> list[RowFilter]:
    """The filters that parameters of a URL ask for (`FILTER_SUFFIXES`).

    Raises:
        InvalidRequest: an unknown parameter, or an invalid value.
    """
    return [_row_filter(view, parameter, texts) for parameter, texts in parameters.items()]


def _row_filter(view: View, parameter: str, texts: Sequence[str]) -> RowFilter:
    if parameter in view.run_columns:
        return RowFilter(parameter, "varchar", "", texts, is_run_column=True)
    column, suffix = _column(view, parameter)
    kind = view.columns[column]
    if suffix == "":
        return RowFilter(column, kind, "", [typed_value(parameter, kind, text) for text in texts])
    if len(texts) > 1:
        raise InvalidRequest(f"{parameter} is given twice")
    asked = "boolean" if suffix == "null" else kind
    return RowFilter(column, kind, suffix, [typed_value(parameter, asked, texts[0])])


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


def typed_value(parameter: str, kind: str, text: str) -> Any:
    """The value of a parameter as a value of type `kind`.

    Raises:
        InvalidRequest: the text is no such value.
    """
    try:
        if kind == "boolean":
            return {"true": True, "false": False}[text.lower()]
        if kind in (*INTEGERS, "double", "float") and NON_NUMERIC.search(text):
            raise ValueError
        if kind in INTEGERS:
            number = int(text)
            if number not in INTEGERS[kind]:
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
            "integer": "a whole number of 32 bits",
            "bigint": "a whole number of 64 bits",
        }.get(kind, "a number")
        raise InvalidRequest(f"{parameter}={text!r} is not {expected}") from error
    return text
