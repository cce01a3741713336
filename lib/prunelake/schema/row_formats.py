"""Rows encoded in the formats that programs read."""

import re
from collections.abc import Mapping
from decimal import Decimal
from io import BytesIO
from typing import Any

import orjson
import polars as pl

from prunelake.schema.row_format_names import RowFormat as RowFormat

MEDIA_TYPES: Mapping[RowFormat, str] = {
    RowFormat.json: "application/json",
    RowFormat.csv: "text/csv; charset=utf-8",
    RowFormat.ndjson: "application/x-ndjson",
    RowFormat.parquet: "application/vnd.apache.parquet",
    RowFormat.arrow: "application/vnd.apache.arrow.stream",
}


FORMULA_START = r"^[=+\-@\t\r]"
"""The first character of texts that spreadsheets may run as formulas."""


def encode_rows(frame: pl.DataFrame, format: RowFormat, is_for_spreadsheet: bool = False) -> bytes:
    """The rows in a format. Arrow is the IPC stream; CSV holds lists and structs as JSON.

    JSON has no NaN and no infinity, so they become null. In CSV for a spreadsheet, an apostrophe
    precedes each text and each column name that could be a formula.
    """
    match format:
        case RowFormat.json:
            return to_json(frame.to_dicts())
        case RowFormat.ndjson:
            return b"".join(to_json(row) + b"\n" for row in frame.iter_rows(named=True))
        case RowFormat.csv:
            nested = [name for name, kind in frame.schema.items() if kind.is_nested()]
            as_json = [pl.Series(name, map(_json_text, frame[name].to_list())) for name in nested]
            table = frame.with_columns(as_json)
            return (_without_formulas(table) if is_for_spreadsheet else table).write_csv().encode()
        case RowFormat.parquet:
            file = BytesIO()
            frame.write_parquet(file)
            return file.getvalue()
        case RowFormat.arrow:
            file = BytesIO()
            frame.write_ipc_stream(file, compat_level=pl.CompatLevel.oldest())
            return file.getvalue()


def _without_formulas(frame: pl.DataFrame) -> pl.DataFrame:
    texts = pl.col(pl.String, pl.Categorical, pl.Enum).cast(pl.String)
    is_formula = texts.str.contains(FORMULA_START)
    quoted = frame.with_columns(
        pl.when(is_formula).then(pl.lit("'") + texts).otherwise(texts).name.keep()
    )
    return quoted.rename(lambda name: f"'{name}" if re.search(FORMULA_START, name) else name)


def to_json(value: Any) -> bytes:
    """A value as JSON; times follow RFC 3339.

    Fractional decimals, integers beyond 64 bits and values of types that JSON lacks become text.
    """
    try:
        return orjson.dumps(value, default=_json_default)
    except orjson.JSONEncodeError:
        return orjson.dumps(_big_ints_as_text(value), default=_json_default)


def _json_text(value: Any) -> str | None:
    return None if value is None else to_json(value).decode()


def _big_ints_as_text(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _big_ints_as_text(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_big_ints_as_text(item) for item in value]
    return str(value) if isinstance(value, int) and not -(2**63) <= value < 2**64 else value


def _json_default(value: object) -> object:
    if isinstance(value, Decimal) and value == int(value) and abs(value) < 2**63:
        return int(value)
    return str(value)
