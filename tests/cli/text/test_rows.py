"""Rows as a table that fits the terminal, and in the format that the name of a file gives."""

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from prunelake.cli.text.rows import print_frame, table_text
from prunelake.errors import InvalidSpec
from prunelake.schema.row_formats import RowFormat

FRAME = pl.DataFrame(
    {"level": [0, 12], "metric": ["ece", None], "value": [0.123456, 2.0], "layers": [[1, 2], []]}
)


def test_a_table_that_fits_has_one_block() -> None:
    assert table_text(FRAME, 34) == (
        "level  metric   value  layers\n"
        "─────  ──────  ──────  ──────\n"
        "    0  ece     0.1235  [1,2]\n"
        "   12  null         2  []\n"
    )


def test_columns_that_do_not_fit_follow_below_with_row_numbers() -> None:
    assert table_text(FRAME, 20) == (
        "#  level  metric\n"
        "─  ─────  ──────\n"
        "0      0  ece\n"
        "1     12  null\n"
        "\n"
        "#   value  layers\n"
        "─  ──────  ──────\n"
        "0  0.1235  [1,2]\n"
        "1       2  []\n"
    )


@given(
    st.lists(st.text("ab ü日", min_size=1, max_size=30), unique=True, min_size=1, max_size=6),
    st.text(max_size=120),
    st.integers(20, 90),
)
def test_headers_are_whole_and_lines_fit(names: list[str], text: str, width: int) -> None:
    names = [name.strip() or "a" for name in names]
    frame = pl.DataFrame([pl.Series(name, [text]) for name in dict.fromkeys(names)])
    lines = table_text(frame, width).splitlines()
    for name in frame.columns:
        assert any(name in line for line in lines)
    longest = max(map(cell_len, frame.columns))
    assert max(map(cell_len, lines)) <= max(width, longest + 3) + 3


def test_the_suffix_of_a_file_gives_the_format(tmp_path: Path) -> None:
    print_frame(FRAME, None, tmp_path / "x.parquet")
    assert pl.read_parquet(tmp_path / "x.parquet").equals(FRAME)
    print_frame(FRAME, None, tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_text().startswith("level,metric,value,layers\n0,ece,0.123456,")
    print_frame(FRAME, RowFormat.csv, tmp_path / "x.txt")
    assert (tmp_path / "x.txt").read_text() == (tmp_path / "x.csv").read_text()
    with pytest.raises(InvalidSpec, match=r"--format csv contradicts --out .*x\.parquet"):
        print_frame(FRAME, RowFormat.csv, tmp_path / "x.parquet")
