"""The messages between the server and a worker for SQL: lines of JSON, then the rows."""

from pydantic import BaseModel

from prunelake.schema.row_formats import RowFormat

READY_LINE = b"ready\n"
"""The first line of a worker, which is then ready for a request."""


class SqlRequest(BaseModel):
    """A statement of a client, and the limits of its answer."""

    query: str
    format: RowFormat
    is_for_spreadsheet: bool = False
    max_rows: int
    max_bytes: int
    max_seconds: float
    memory_bytes: int

    @property
    def limits(self) -> dict[str, float]:
        """The limits by name."""
        return self.model_dump(exclude={"query", "format", "is_for_spreadsheet"})


class SqlResponseHeader(BaseModel):
    """One line before the `size` bytes of an answer; `error` is the name of an error's class."""

    snapshot: str = ""
    row_count: int = 0
    is_truncated: bool = False
    size: int = 0
    error: str = ""
    message: str = ""
