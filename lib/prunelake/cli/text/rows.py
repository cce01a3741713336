"""Print rows: as a table that fits the terminal, or in a format for programs."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl
import typer
from rich.cells import cell_len, set_cell_size

from prunelake.errors import InvalidSpec, one_line
from prunelake.schema.row_formats import RowFormat, encode_rows, to_json

MAX_CELL_WIDTH = 80
GAP = "  "
WIDTH_WITHOUT_TERMINAL = 10_000
"""Programs and pagers get whole lines, unless COLUMNS gives another width."""


def print_frame(frame: pl.DataFrame, format: RowFormat | None, out: Path | None) -> None:
    """Print rows, or write them to the file `out`.

    Without `format`, the suffix of `out` gives the format. Without both, the rows become a table.

    Raises:
        InvalidSpec: Parquet or Arrow without a file, a suffix of another format, or a file that
            cannot be written.
    """
    suffix = out.suffix.removeprefix(".") if out else ""
    named = RowFormat(suffix) if suffix in {*RowFormat} else None
    if None not in (format, named) and format is not named:
        raise InvalidSpec(f"--format {format} contradicts --out {out}: leave one out")
    format = format or named
    if out is None:
        if format in (RowFormat.parquet, RowFormat.arrow):
            raise InvalidSpec(f"--format {format} needs --out FILE")
        typer.echo(_text(frame, format), nl=False)
        return
    try:
        if format in (RowFormat.parquet, RowFormat.arrow):
            out.write_bytes(encode_rows(frame, format))
        else:
            out.write_text(_text(frame, format), encoding="utf-8")
    except OSError as error:
        raise InvalidSpec(f"--out {out}: cannot be written ({one_line(error)})") from error


def _text(frame: pl.DataFrame, format: RowFormat | None) -> str:
    if format is RowFormat.json:
        rows = ",\n".join(to_json(row).decode() for row in frame.iter_rows(named=True))
        return f"[{rows}]\n"
    if format is not None:
        return encode_rows(frame, format).decode()
    width = shutil.get_terminal_size((WIDTH_WITHOUT_TERMINAL, 24)).columns
    return table_text(frame, width)


def table_text(frame: pl.DataFrame, width: int) -> str:
    """The rows as a table. Columns that do not fit into the width follow below, with row numbers.

    Names of columns are never cut, and texts only if they are longer than a line.
    """
    columns = [_Column(series, width) for series in frame]
    if sum(column.width for column in columns) + len(GAP) * (len(columns) - 1) <= width:
        return _block_text(columns)
    numbers = _Column(pl.Series("#", range(frame.height)), width)
    blocks = _blocks(columns, width - numbers.width - len(GAP))
    return "\n".join(_block_text([numbers, *block]) for block in blocks)


class _Column:
    """The name and the cells of a column as texts of one width."""

    def __init__(self, series: pl.Series, width: int) -> None:
        texts = [_cell(value) for value in series]
        most = max(1, min(MAX_CELL_WIDTH, width))
        self.width = max(cell_len(series.name), *(min(cell_len(t), most) for t in texts), 1)
        self.is_number = series.dtype.is_numeric()
        self.lines = [self._padded(text) for text in (series.name, *texts)]

    def _padded(self, text: str) -> str:
        missing = self.width - cell_len(text)
        if missing < 0:
            return set_cell_size(text, self.width - 1) + "…"
        return " " * missing + text if self.is_number else text + " " * missing


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "null"
    if isinstance(value, pl.Series):
        return to_json(value.to_list()).decode()
    if isinstance(value, dict):
        return to_json(value).decode()
    return " ".join(str(value).splitlines())


def _blocks(columns: Sequence[_Column], width: int) -> Iterator[list[_Column]]:
    """The columns in groups. A group has as many columns as fit, and at least one."""
    block: list[_Column] = []
    used = 0
    for column in columns:
        if block and used + column.width > width:
            yield block
            block, used = [], 0
        block.append(column)
        used += column.width + len(GAP)
    yield block


def _block_text(columns: Sequence[_Column]) -> str:
    lines = [GAP.join(cells).rstrip() for cells in zip(*(c.lines for c in columns), strict=True)]
    rule = GAP.join("─" * column.width for column in columns)
    return "\n".join([*lines[:1], rule, *lines[1:]]) + "\n"
