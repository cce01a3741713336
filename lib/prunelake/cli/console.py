"""Options that several commands share, and the printing of rows."""

from pathlib import Path
from typing import Annotated

import polars as pl
import typer
from pydantic import ValidationError

from prunelake.errors import InvalidSpec, one_line, validation_message
from prunelake.schema.row_formats import RowFormat, encode_rows, to_json
from prunelake.settings import load_settings as load_settings
from prunelake.spec import Strategy

LakeOption = Annotated[
    str | None,
    typer.Option(
        "--lake",
        metavar="PATH",
        help="Folder of the lake, or s3://BUCKET/PREFIX [env PRUNELAKE_LAKE, ./lake].",
    ),
]

# Options that choose a removal order: that of a run in the lake, or else a computed one.
OrderStrategyOption = Annotated[
    str,
    typer.Option(
        "--strategy", help="As in `prunelake sweep`: cosine, random:SEED, mlp:cosine, ..."
    ),
]
OrderDtypeOption = Annotated[
    str | None,
    typer.Option("--dtype", help="Number format [that of the lake's runs, else float32]."),
]
OrderRunOption = Annotated[
    str | None,
    typer.Option("--run", help="The run with the removal order, if the orders of runs differ."),
]
CalibrationTextOption = Annotated[
    str,
    typer.Option(
        "--calibration",
        help="The text for computing an order that the lake lacks: bundled, c4, or a file.",
    ),
]

FormatOption = Annotated[
    RowFormat | None,
    typer.Option("--format", help="The format of the rows [a table for people]."),
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", help="Write the rows to this file; parquet and arrow need one."),
]


def parse_strategy(text: str) -> Strategy:
    """The strategy with this label: `cosine`, `random:3`, `mlp:cosine`.

    Raises:
        InvalidSpec: no such strategy, or an invalid seed.
    """
    try:
        return Strategy.model_validate(text)
    except ValidationError as error:
        problems = validation_message(error.errors(), name_of=lambda _: "")
        raise InvalidSpec(f"--strategy {text}: {problems}") from error


def parse_numbers(text: str | None) -> list[int] | None:
    """The numbers in an option like 0,4,8.

    Raises:
        InvalidSpec: the text is not a list of whole numbers.
    """
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise InvalidSpec(f"{text!r} is not a list of whole numbers like 0,4,8") from error


def print_frame(frame: pl.DataFrame, format: RowFormat | None, out: Path | None) -> None:
    """Print rows, or write them to the file `out`. Without a format they are a table for people.

    Raises:
        InvalidSpec: Parquet or Arrow without a file, or the file cannot be written.
    """
    try:
        if format in (RowFormat.parquet, RowFormat.arrow):
            if out is None:
                raise InvalidSpec(f"--format {format} needs --out FILE")
            out.write_bytes(encode_rows(frame, format))
        elif out is None:
            typer.echo(_format_frame(frame, format), nl=False)
        else:
            out.write_text(_format_frame(frame, format), encoding="utf-8")
    except OSError as error:
        if out is None:
            raise  # the terminal or a pipe: `app.main` says so
        raise InvalidSpec(f"--out {out}: cannot be written ({one_line(error)})") from error


def _format_frame(frame: pl.DataFrame, format: RowFormat | None) -> str:
    if format is RowFormat.json:
        rows = ",\n".join(to_json(row).decode() for row in frame.iter_rows(named=True))
        return f"[{rows}]\n"
    if format is not None:
        return encode_rows(frame, format).decode()
    with pl.Config(
        tbl_rows=-1,
        tbl_cols=-1,
        fmt_str_lengths=80,
        tbl_width_chars=200,
        tbl_hide_column_data_types=True,
        tbl_hide_dataframe_shape=True,
        float_precision=4,
    ):
        return f"{frame}\n"
