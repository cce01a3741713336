"""Chooses the format of an answer: `format=csv`, else the Accept header, else JSON."""

from prunelake.errors import InvalidRequest
from prunelake.schema.row_formats import MEDIA_TYPES, RowFormat

FORMAT_BY_MEDIA_TYPE = {kind.partition(";")[0]: format for format, kind in MEDIA_TYPES.items()} | {
    "application/*": RowFormat.json,
    "text/*": RowFormat.csv,
    "*/*": RowFormat.json,
    "application/parquet": RowFormat.parquet,
    "application/jsonl": RowFormat.ndjson,
}


def chosen_format(named: str | None, accept: str) -> tuple[RowFormat, bool]:
    """The format, and whether the Accept header decided it.

    The Accept header chooses its known format with the highest q. Without a known format the answer
    is JSON: browsers ask for HTML.

    Raises:
        InvalidRequest: no such format.
    """
    if named is not None:
        if named not in RowFormat.__members__:
            raise InvalidRequest(f"no format {named!r}", RowFormat.__members__)
        return RowFormat(named), False
    accepted = []
    for position, part in enumerate(accept.split(",")):
        kind, *parameters = (piece.strip() for piece in part.split(";"))
        quality = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        if kind in FORMAT_BY_MEDIA_TYPE:
            accepted.append((-_quality_value(quality), position, FORMAT_BY_MEDIA_TYPE[kind]))
    if not accepted:
        return RowFormat.json, False
    format = min(accepted)[2]
    return format, format is not RowFormat.json


def _quality_value(quality: str) -> float:
    try:
        return float(quality)
    except ValueError:
        return 0.0
