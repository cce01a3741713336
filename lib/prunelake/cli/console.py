"""What the commands share: the lake they are about, and how rows are printed."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import polars as pl
import typer
from pydantic import ValidationError

from prunelake.errors import InvalidSpec, one_line
from prunelake.lake.storage import Location, parse_location
from prunelake.schema.row_formats import RowFormat, encode_rows, to_json
from prunelake.settings import Settings
from prunelake.spec import Strategy

LakeOption = Annotated[
    str | None,
    typer.Option(
        "--lake",
        metavar="PATH",
        help="Folder of the lake, or s3://BUCKET/PREFIX [env PRUNELAKE_LAKE, ./lake].",
    ),
]

# Which removal order a command is about that sweeps nothing: of the lake's runs, or computed.
OrderStrategyOption = Annotated[
    str,
    typer.Option(
        "--strategy", help="As of `prunelake sweep`: cosine, random:SEED, mlp:cosine, ..."
    ),
]
OrderDtypeOption = Annotated[
    str | None,
    typer.Option("--dtype", help="Number format [that of the lake's runs, else float32]."),
]
OrderRunOption = Annotated[
    str | None,
    typer.Option("--run", help="The run whose removal order counts, if several differ."),
]
CalibrationTextOption = Annotated[
    str,
    typer.Option(
        "--calibration", help="Text for an order that the lake lacks: bundled, c4, or a file."
    ),
]


class OutputFormat(StrEnum):
    """How rows are printed."""

    table = "table"
    csv = "csv"
    json = "json"
    ndjson = "ndjson"
    parquet = "parquet"
    arrow = "arrow"


def load_settings(lake: str | None) -> Settings:
    """The settings of the environment, with the lake of `--lake` if it was given.

    Raises:
        InvalidSpec: a variable has a value that means nothing.
    """
    try:
        settings = Settings()
    except ValidationError as error:
        problems = "; ".join(
            f"PRUNELAKE_{str(problem['loc'][0]).upper()}={problem['input']}: {problem['msg']}"
            for problem in error.errors()
        )
        raise InvalidSpec(problems) from error
    return settings if lake is None else settings.model_copy(update={"lake": parse_location(lake)})


def parse_strategy(text: str) -> Strategy:
    """The strategy of this label: `cosine`, `random:3`, `mlp:cosine`.

    Raises:
        InvalidSpec: no such strategy, or a seed that is none.
    """
    try:
        return Strategy.model_validate(text)
    except ValidationError as error:
        told = "; ".join(problem["msg"] for problem in error.errors())
        raise InvalidSpec(f"--strategy {text}: {told}") from error


def parse_numbers(text: str | None) -> list[int] | None:
    """The numbers of an option like 0,4,8.

    Raises:
        InvalidSpec: something else.
    """
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise InvalidSpec(f"{text!r} is not a list of whole numbers like 0,4,8") from error


def print_summary(lake: Location, run_ids: list[str]) -> None:
    """Print what runs show, as tables and in words."""
    from prunelake.cli import terminal

    terminal.print_summary(lake, run_ids)


def print_frame(frame: pl.DataFrame, format: OutputFormat, out: Path | None) -> None:
    """Print rows, or write them to `out`.

    Raises:
        InvalidSpec: Parquet or Arrow without a file to write to, or a file that cannot be written.
    """
    try:
        if format in (OutputFormat.parquet, OutputFormat.arrow):
            if out is None:
                raise InvalidSpec(f"--format {format} needs --out FILE")
            out.write_bytes(encode_rows(frame, RowFormat(format)))
        elif out is None:
            typer.echo(_format_frame(frame, format), nl=False)
        else:
            out.write_text(_format_frame(frame, format), encoding="utf-8")
    except OSError as error:
        raise InvalidSpec(f"--out {out}: cannot be written ({one_line(error)})") from error


def _format_frame(frame: pl.DataFrame, format: OutputFormat) -> str:
    if format is OutputFormat.json:
        rows = ",\n".join(to_json(row).decode() for row in frame.iter_rows(named=True))
        return f"[{rows}]\n"
    if format is not OutputFormat.table:
        return encode_rows(frame, RowFormat(format)).decode()
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
