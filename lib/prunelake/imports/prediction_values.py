"""The values in a file of predictions: check each, and give it the type of its column."""

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import polars as pl

# Stricter than float(), which also accepts 1_000 and digits of any script.
NUMBER_PATTERN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
TRUTH_VALUES = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
MAX_OPTIONS = 1000


def _text(value: Any, _: bool) -> str:
    if isinstance(value, str):
        value.encode()  # JSON can hold half a surrogate pair, and UTF-8 cannot
        return value.strip()
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise ValueError("write a text or a whole number")


def _probability(value: Any, is_text_file: bool) -> float:
    if isinstance(value, str) and is_text_file and NUMBER_PATTERN.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, bool | str) or not isinstance(value, int | float):
        kind = "" if is_text_file else ", not text"
        raise ValueError(f"write a number from 0 to 1{kind}, or nothing if there is none")
    if math.isnan(value):
        raise ValueError("write a number from 0 to 1, or nothing if there is none")
    return float(value)


def _truth(value: Any, is_text_file: bool) -> bool:
    found = None
    if is_text_file or not isinstance(value, str):
        found = TRUTH_VALUES.get(str(value).strip().lower())
    if found is None:
        raise ValueError("write true or false, or 1 or 0")
    return found


def _count(value: Any, is_text_file: bool) -> int:
    if (
        isinstance(value, str)
        and is_text_file
        and re.fullmatch(r"\d{1,4}", value.strip(), re.ASCII)
    ):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 2 <= value <= MAX_OPTIONS:
        raise ValueError(f"write the number of options, from 2 to {MAX_OPTIONS}")
    return value


def _options(value: Any, is_text_file: bool) -> list[str]:
    if isinstance(value, str) and is_text_file:
        try:
            value = json.loads(value)
        except ValueError:
            value = None
    if isinstance(value, pl.Series):
        value = value.to_list()
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ValueError('write a list of texts, like ["yes", "no"]')
    if not 2 <= len(value) <= MAX_OPTIONS:
        raise ValueError(f"an answer is chosen from 2 to {MAX_OPTIONS} options")
    return [_text(text, is_text_file) for text in value]


CONVERTERS: Mapping[str, tuple[pl.DataType, Callable[[Any, bool], Any]]] = {
    "id": (pl.String(), _text),
    "prediction": (pl.String(), _text),
    "gold": (pl.String(), _text),
    "correct": (pl.Boolean(), _truth),
    "confidence": (pl.Float64(), _probability),
    "options": (pl.List(pl.String()), _options),
    "option_count": (pl.Int32(), _count),
    "prompt": (pl.String(), _text),
}
"""The type of each column, and the function that reads one of its values.

The second argument says whether the file is CSV, which has all values as text. A function raises
ValueError with the remedy.
"""


def first_true(values: pl.Series) -> int | None:
    """The index of the first true value; None if there is none."""
    row = values.arg_max()
    return row if row is not None and values[row] else None
