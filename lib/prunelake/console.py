"""What the commands share: the lake they are about, and how rows are printed."""

import json
import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from prunelake.errors import InvalidSpec, one_line
from prunelake.spec import Settings

LakeOption = Annotated[
    Path | None, typer.Option("--lake", help="Folder of the lake [env PRUNELAKE_LAKE, ./lake].")
]


class Format(StrEnum):
    """How rows are printed."""

    table = "table"
    csv = "csv"
    json = "json"
    parquet = "parquet"


def settings_for(lake: Path | None) -> Settings:
    """The settings of the environment, with the lake of `--lake` if it was given."""
    settings = Settings()
    return settings if lake is None else settings.model_copy(update={"lake": lake})


def print_summary(lake: Path, run_ids: list[str]) -> None:
    """Print what runs show, as tables and in words."""
    from api import terminal

    terminal.print_summary(lake, run_ids)


def print_frame(frame: pl.DataFrame, format: Format, out: Path | None) -> None:
    """Print rows, or write them to `out`.

    Raises:
        InvalidSpec: Parquet without a file to write it to, or a file that cannot be written.
    """
    try:
        if format is Format.parquet:
            if out is None:
                raise InvalidSpec("--format parquet needs --out FILE")
            frame.write_parquet(out)
        elif out is None:
            typer.echo(_text(frame, format), nl=False)
        else:
            out.write_text(_text(frame, format), encoding="utf-8")
    except OSError as error:
        raise InvalidSpec(f"--out {out}: cannot be written ({one_line(error)})") from error


def _json(value: Any) -> str:
    """JSON has no NaN and no infinity: they become null."""
    return json.dumps(_finite(value), default=str, ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _text(frame: pl.DataFrame, format: Format) -> str:
    if format is Format.csv:
        nested = [name for name, kind in frame.schema.items() if kind.is_nested()]
        as_json = [pl.Series(name, map(_json, frame[name].to_list())) for name in nested]
        return frame.with_columns(as_json).write_csv()
    if format is Format.json:
        rows = ",\n".join(map(_json, frame.to_dicts()))
        return f"[{rows}]\n"
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
