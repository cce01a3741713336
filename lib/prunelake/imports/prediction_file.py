"""Read a file of predictions: an id, an answer, and perhaps one confidence in each row."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import polars as pl

from prunelake.errors import BadRow, InvalidSpec, one_line, shortened
from prunelake.imports.prediction_values import CONVERTERS, first_true
from prunelake.tasks.hub import read_json_lines

CSV_SEPARATORS = {".csv": ",", ".tsv": "\t"}
JSON_SUFFIXES = (".jsonl", ".ndjson", ".jsonl.gz")
PARQUET_SUFFIX = ".parquet"


@dataclass(frozen=True)
class PredictionColumns:
    """The name of each column in a file of predictions.

        PredictionColumns(prediction="answer", gold="target")

    A file needs `id`, `prediction`, and `gold` or `correct`. The other columns are optional.
    """

    id: str = "id"
    prediction: str = "prediction"
    gold: str = "gold"
    correct: str = "correct"
    confidence: str = "confidence"
    options: str = "options"
    option_count: str = "option_count"
    prompt: str = "prompt"

    def items(self) -> Iterator[tuple[str, str]]:
        """The meaning and the name of each column."""
        return ((field.name, getattr(self, field.name)) for field in fields(self))


def read_predictions(path: Path, columns: PredictionColumns) -> pl.DataFrame:
    """The rows of a CSV (or TSV), JSONL or Parquet file, in file order.

    The result has the columns that the file has, by meaning. Answers are
    texts without spaces around them; a number counts as its text. An empty value is null. Other
    columns of the file are not read.

    Raises:
        InvalidSpec: no such file, another format, or a column that the file lacks.
        BadRow: a value of the wrong kind, a repeated or missing id, a row without gold answer, or a
            confidence outside 0 to 1. The message names the row, from 0.
    """
    if not path.is_file():
        raise InvalidSpec(f"no file {path}; give a CSV, JSONL or Parquet file")
    try:
        frame, names = _read(path, columns)
    except pl.exceptions.PolarsError as error:
        raise BadRow(f"{path} cannot be read: {one_line(error)}") from error
    _check_columns(path, names, columns)
    present = {meaning: name for meaning, name in columns.items() if name in names}
    converted = pl.DataFrame(
        [_convert(path, meaning, frame[name]) for meaning, name in present.items()]
    )
    if converted.is_empty():
        raise BadRow(f"{path} has no rows")
    _check_rows(path, converted)
    return converted


def _place(path: Path, frame: pl.DataFrame, row: int) -> str:
    """The place of a row in a message: its file, number and id."""
    return f"{path}, row {row} (id {shortened(repr(frame['id'][row]))})"


def _read(path: Path, columns: PredictionColumns) -> tuple[pl.DataFrame, list[str]]:
    """The wanted columns of a file as the file gives them, and the names of all its columns."""
    wanted = [name for _, name in columns.items()]
    name = path.name.lower()
    suffix = Path(name).suffix
    if name.endswith(JSON_SUFFIXES):
        return _read_json_lines(path, wanted)
    if suffix == PARQUET_SUFFIX:
        rows = pl.scan_parquet(path)
    elif suffix in CSV_SEPARATORS:
        rows = pl.scan_csv(path, separator=CSV_SEPARATORS[suffix], infer_schema=False)
    else:
        raise InvalidSpec(
            f"{path}: unknown format; give a file .csv, .tsv, {', '.join(JSON_SUFFIXES)} or "
            f"{PARQUET_SUFFIX}"
        )
    names = rows.collect_schema().names()
    frame = rows.select(name for name in wanted if name in names).collect(engine="streaming")
    if suffix in CSV_SEPARATORS and frame.width:
        frame = frame.filter(~pl.all_horizontal(pl.all().is_null()))  # blank lines
    return frame, names


def _read_json_lines(path: Path, wanted: list[str]) -> tuple[pl.DataFrame, list[str]]:
    """The wanted values of each row as Python objects: their types are checked later."""
    names: dict[str, None] = {}
    values: dict[str, list[Any]] = {name: [] for name in wanted}
    for number, row in enumerate(read_json_lines(path)):
        if not isinstance(row, dict):
            raise BadRow(f"{path}, row {number}: {shortened(repr(row))} is not a JSON object")
        names |= dict.fromkeys(row)
        for name in wanted:
            values[name].append(row.get(name))
    present = {name: values[name] for name in wanted if name in names}
    series = [pl.Series(name, column, pl.Object()) for name, column in present.items()]
    return pl.DataFrame(series), [*names]


def _check_columns(path: Path, names: list[str], columns: PredictionColumns) -> None:
    defaults = dict(PredictionColumns().items())
    for meaning, name in columns.items():
        is_needed = meaning in ("id", "prediction") or name != defaults[meaning]
        if is_needed and name not in names:
            raise InvalidSpec(
                f"{path}: no column {name!r}; it has {shortened(', '.join(names)) or 'none'}. Give "
                f"its {meaning} by --column {meaning}=NAME"
            )


def _convert(path: Path, meaning: str, values: pl.Series) -> pl.Series:
    """One column with the type that `prediction_values` gives it."""
    dtype, read = CONVERTERS[meaning]
    if values.dtype == dtype and meaning in ("confidence", "correct"):
        return values.alias(meaning)
    is_text_file = path.suffix.lower() in CSV_SEPARATORS
    converted = []
    for row, value in enumerate(values):
        if isinstance(value, str) and not value.strip():
            value = None
        try:
            converted.append(None if value is None else read(value, is_text_file))
        except ValueError as error:
            shown = shortened(repr(value.to_list() if isinstance(value, pl.Series) else value))
            raise BadRow(f"{path}, row {row}, column {values.name}: {shown}; {error}") from error
    return pl.Series(meaning, converted, dtype)


def _check_rows(path: Path, frame: pl.DataFrame) -> None:
    """Check the ids, and that each row agrees with itself about its answer."""
    if (row := first_true(frame["id"].is_null())) is not None:
        raise BadRow(f"{path}, row {row}: no id; every row needs one, the same in all files")
    if (row := first_true(~frame["id"].is_first_distinct())) is not None:
        first = frame["id"].index_of(frame["id"][row])
        raise BadRow(
            f"{_place(path, frame, row)}: the id appears twice, first in row {first}; write one "
            "row for each question"
        )
    if frame["prediction"].null_count() == frame.height:
        raise BadRow(f"{path} has no prediction in any row")
    for name in ("gold", "correct"):
        row = first_true(frame[name].is_null()) if name in frame.columns else None
        if row is not None:
            raise BadRow(
                f"{_place(path, frame, row)}: no {name}; every row needs the right answer, or "
                "whether its prediction is correct"
            )
    if "confidence" in frame.columns:
        row = first_true(~frame["confidence"].is_between(0, 1))
        if row is not None:
            value = frame["confidence"][row]
            percent = f" (a percentage? write {value / 100:g})" if 1 < value <= 100 else ""
            raise BadRow(
                f"{_place(path, frame, row)}: confidence {value:g} is not a probability from 0 to "
                f"1{percent}; leave it empty if there is none"
            )
    if "correct" in frame.columns:
        row = first_true(frame["prediction"].is_null() & frame["correct"])
        if row is not None:
            raise BadRow(f"{_place(path, frame, row)}: correct is True, but there is no prediction")
