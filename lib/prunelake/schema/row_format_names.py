"""The formats of rows; apart from the encoders, which need polars."""

from enum import StrEnum


class RowFormat(StrEnum):
    """The format of encoded rows."""

    json = "json"
    csv = "csv"
    ndjson = "ndjson"
    parquet = "parquet"
    arrow = "arrow"
