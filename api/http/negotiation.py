"""Chooses the format of an answer: `format=csv`, else the Accept header, else JSON."""

import math
from functools import lru_cache

from starlette.exceptions import HTTPException

from prunelake.errors import InvalidRequest
from prunelake.schema.row_formats import MEDIA_TYPES, RowFormat

OTHER_NAMES = {
    RowFormat.parquet: ["application/parquet", "application/x-parquet"],
    RowFormat.ndjson: ["application/jsonl", "application/ndjson"],
}
"""Further names of formats in use."""


# Most clients send one of a few headers.
@lru_cache
def chosen_format(named: str | None, accept: str) -> tuple[RowFormat, bool]:
    """The format, and whether the Accept header decided it.

    The Accept header chooses the format with the highest q; q=0 excludes a format. Without a known
    format the answer is JSON: browsers ask for HTML.

    Raises:
        InvalidRequest: no such format.
        HTTPException: the Accept header excludes JSON, and accepts no other format (406).
    """
    if named is not None:
        if named not in RowFormat.__members__:
            raise InvalidRequest(f"no format {named!r}", RowFormat.__members__)
        return RowFormat(named), False
    qualities = quality_values(accept)
    order = list(qualities)
    ranks = []
    for position, format in enumerate(RowFormat):
        media_range = _media_range(format, qualities)
        if media_range is not None and qualities[media_range] > 0:
            ranks.append((-qualities[media_range], order.index(media_range), position, format))
    if ranks:
        format = min(ranks)[-1]
        return format, format is not RowFormat.json
    if _media_range(RowFormat.json, qualities) is not None:
        kinds = ", ".join(kind.partition(";")[0] for kind in MEDIA_TYPES.values())
        raise HTTPException(406, f"Accept: {accept[:200]!r} excludes all formats: {kinds}")
    return RowFormat.json, False


def quality_values(header: str) -> dict[str, float]:
    """The values of a header such as Accept with their q from 0 to 1, in lower case and order."""
    found: dict[str, float] = {}
    for part in header.lower().split(","):
        value, *parameters = (piece.strip() for piece in part.split(";"))
        if value:
            quality = next((p[2:] for p in parameters if p.startswith("q=")), "1")
            found.setdefault(value, _quality_value(quality))
    return found


def _media_range(format: RowFormat, qualities: dict[str, float]) -> str | None:
    """The most specific range of an Accept header that a format matches."""
    kind = MEDIA_TYPES[format].partition(";")[0]
    names = [kind, *OTHER_NAMES.get(format, ()), f"{kind.partition('/')[0]}/*", "*/*"]
    return next((name for name in names if name in qualities), None)


def _quality_value(quality: str) -> float:
    try:
        value = float(quality)
    except ValueError:
        return 0.0
    return min(max(value, 0.0), 1.0) if math.isfinite(value) else 0.0
