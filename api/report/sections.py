"""Sections of the report that ask for rows, and the answers to all of them together."""

from collections.abc import Generator, Sequence

import polars as pl

from prunelake.lake.sql.bound_query import BoundQuery, Connection
from prunelake.lake.sql.queries_together import rows_of_each

Section = Generator[BoundQuery, pl.DataFrame, str]
"""The markup of a section; it yields each query that it needs, and gets the rows."""


def markup_of_each(sections: Sequence[Section], connection: Connection) -> list[str]:
    """The markup of sections, which ask their queries side by side.

    Sections of equal kinds ask equal SQL at the same time, which is read at once.

    Raises:
        QueryError: as `rows_of_each`.
    """
    found = [""] * len(sections)
    asked: dict[int, BoundQuery] = {}

    def go_on(number: int, rows: pl.DataFrame | None) -> None:
        try:
            # A generator starts with None.
            asked[number] = sections[number].send(rows)  # type: ignore[arg-type]
        except StopIteration as end:
            found[number] = end.value

    for number in range(len(sections)):
        go_on(number, None)
    while asked:
        answers = zip([*asked], rows_of_each([*asked.values()], connection), strict=True)
        asked.clear()
        for number, rows in answers:
            go_on(number, rows)
    return found
