"""Rows in the formats that programs read, against polars' own readers."""

import io
import json
import math
from datetime import UTC, datetime
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from polars.testing.parametric import dataframes

from prunelake.schema.row_formats import RowFormat, encode_rows, to_json

FRAME = pl.DataFrame(
    {
        "text": ['a "quoted", comma\nand a line', None],
        "number": [1.5, math.nan],
        "list": [[1.0, math.inf], None],
        "struct": [{"a": 1}, {"a": None}],
        "at": [datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), None],
    }
)


def test_json_has_null_for_nan_and_infinity() -> None:
    assert json.loads(encode_rows(FRAME, RowFormat.json)) == [
        {
            "text": 'a "quoted", comma\nand a line',
            "number": 1.5,
            "list": [1.0, None],
            "struct": {"a": 1},
            "at": "2026-01-02T03:04:05+00:00",
        },
        {"text": None, "number": None, "list": None, "struct": {"a": None}, "at": None},
    ]


def test_ndjson_has_one_json_object_per_line() -> None:
    lines = encode_rows(FRAME, RowFormat.ndjson).splitlines()
    assert [json.loads(line) for line in lines] == json.loads(encode_rows(FRAME, RowFormat.json))


def test_csv_has_lists_as_json_and_nothing_for_null() -> None:
    actual = pl.read_csv(encode_rows(FRAME, RowFormat.csv))
    assert actual["text"].to_list() == FRAME["text"].to_list()
    assert actual["list"].to_list() == ["[1.0,null]", None]
    assert actual["struct"].to_list() == ['{"a":1}', '{"a":null}']


@given(frame=dataframes(max_size=5, allowed_dtypes=[pl.Int64, pl.Float64, pl.String, pl.Boolean]))
def test_parquet_and_arrow_keep_every_value(frame: pl.DataFrame) -> None:
    parquet = pl.read_parquet(io.BytesIO(encode_rows(frame, RowFormat.parquet)))
    arrow = pl.read_ipc_stream(io.BytesIO(encode_rows(frame, RowFormat.arrow)))
    assert parquet.equals(frame)
    assert arrow.equals(frame)


@given(frame=dataframes(max_size=5))
def test_every_frame_can_be_json(frame: pl.DataFrame) -> None:
    rows = json.loads(encode_rows(frame, RowFormat.json))
    assert len(rows) == frame.height


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal(3), b"3"),
        (Decimal("1.50"), b'"1.50"'),
        (Decimal(2**63), b'"9223372036854775808"'),
        ([{"a": 2**64}, -(2**63) - 1], b'[{"a":"18446744073709551616"},"-9223372036854775809"]'),
        ([2**64 - 1, -(2**63)], b"[18446744073709551615,-9223372036854775808]"),
        (b"bytes", b"\"b'bytes'\""),
    ],
)
def test_numbers_beyond_json_are_texts(value: object, text: bytes) -> None:
    assert to_json(value) == text
