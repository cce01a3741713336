"""Import published metrics from CSV: one line for each model, task and level."""

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple, get_args

from prunelake.errors import InvalidSpec, one_line, shortened
from prunelake.explanation_spec import AopcVariant, Method, Operator
from prunelake.identity import content_hash
from prunelake.imports.imported_run import MAX_LEVEL, check_name, write_imported_run
from prunelake.lake.storage.location import Location
from prunelake.schema.metrics import FAITHFULNESS_METRICS, METRIC_DEFINITIONS, value_range

SOURCE = "table"
KEY_COLUMNS = ("model", "task", "removed_layers")
METHODS = (*get_args(Method), "random")

# The metrics that depend on an operator and a variant, and those that depend on a method.
DELETION_METRICS = frozenset(
    name + part for name in FAITHFULNESS_METRICS for part in ("", "_advantage")
)
EXPLANATION_METRICS = DELETION_METRICS | {
    "overlap_5",
    "overlap_10",
    "overlap_20",
    "attribution_spearman",
    "cross_overlap_10",
    "cross_spearman",
    "seed_overlap_10",
    "seed_spearman",
}

# Stricter than float(), which also accepts 1_000 and digits of any script.
NUMBER_PATTERN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
LEVEL_PATTERN = re.compile(r"\d{1,10}", re.ASCII)


class MetricColumn(NamedTuple):
    """The meaning of a column; fields that do not apply or are unknown are empty."""

    metric: str
    method: str
    operator: str
    variant: str


@dataclass(frozen=True, slots=True)
class PublishedRun:
    """The values of one model on one task, by level; an empty cell has no value."""

    model: str
    task: str
    levels: Mapping[int, Mapping[MetricColumn, float]]


def import_table(
    lake: Location,
    path: Path,
    strategy: str = "",
    operator: Operator | None = None,
    variant: AopcVariant | None = None,
) -> list[tuple[PublishedRun, str, bool]]:
    """Write each model and task of a table as one run.

    Returns each run with its id, and whether the run is new in the lake.

    Raises:
        InvalidSpec: as `read_table`; nothing is written then.
        LakeError: the lake cannot be written.
    """
    return [
        (published, *_write_run(lake, path, published, strategy))
        for published in read_table(path, operator, variant)
    ]


def read_table(
    path: Path, operator: Operator | None = None, variant: AopcVariant | None = None
) -> list[PublishedRun]:
    """The runs of a CSV file with the columns model, task, removed_layers, accuracy and others.

    The other columns are named `<metric>` or, for metrics of explanations, `<metric>_<method>`.
    `operator` and `variant` apply to comprehensiveness and sufficiency. An empty cell means that
    the value was not reported.

    Raises:
        InvalidSpec: a file that cannot be read, an unknown or missing column, a value that is not
            a number or outside its metric's range, a repeated level, no level 0, or a name as in
            `check_name`.
    """
    lines = _lines(path)
    first = next(lines, None)
    if first is None:
        raise InvalidSpec(f"{path} is empty; write a line of column names and lines of values")
    header = first[1]
    columns = _columns(path, header, operator or "", variant or "")
    runs: dict[tuple[str, str], dict[int, dict[MetricColumn, float]]] = {}
    seen: dict[tuple[str, str, int], int] = {}
    for number, fields in lines:
        where = f"{path}, line {number}"
        if len(fields) != len(header):
            raise InvalidSpec(f"{where}: {len(fields)} values for {len(header)} columns")
        row = dict(zip(header, fields, strict=True))
        model, task, level = row["model"], row["task"], _level(where, row["removed_layers"])
        for name in ("model", "task"):
            if not row[name]:
                raise InvalidSpec(f"{where}, column {name}: empty; each line names its {name}")
            check_name(f"{where}, column {name}:", row[name])
        if (model, task, level) in seen:
            raise InvalidSpec(
                f"{where}: {model}, {task}, level {level} again (first in line "
                f"{seen[model, task, level]}); write one line for each level"
            )
        seen[model, task, level] = number
        values = {
            column: _value(f"{where}, column {name}", row[name], column)
            for name, column in columns.items()
            if row[name]
        }
        if not values:
            raise InvalidSpec(f"{where}: no value of any metric; leave the line out")
        runs.setdefault((model, task), {})[level] = values
    if not runs:
        raise InvalidSpec(f"{path} has column names and no values")
    for (model, task), levels in runs.items():
        _check_run(f"{path}: {model}, {task}", levels)
    return [
        PublishedRun(model, task, dict(sorted(levels.items())))
        for (model, task), levels in sorted(runs.items())
    ]


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The number, from 1, and the fields of each line that is not blank."""
    if not path.is_file():
        raise InvalidSpec(f"no file {path}; give a CSV file")
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")  # spreadsheets begin UTF-8 files with a byte order mark
    except OSError as error:
        raise InvalidSpec(f"{path} cannot be read: {one_line(error)}") from error
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InvalidSpec(
            f"{path}, line {line}: not UTF-8; save the file as CSV in UTF-8"
        ) from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for fields in reader:
            if any(field.strip() for field in fields):
                yield reader.line_num, [field.strip() for field in fields]
    except csv.Error as error:
        raise InvalidSpec(f"{path}, line {reader.line_num}: not CSV ({error})") from error


def _columns(path: Path, header: list[str], operator: str, variant: str) -> dict[str, MetricColumn]:
    where = f"{path}, line 1"
    for name in (*KEY_COLUMNS, "accuracy"):
        if name not in header:
            raise InvalidSpec(
                f"{where}: no column {name}; the line is {shortened(','.join(header))!r}. Give a "
                f"CSV file with the columns {', '.join(KEY_COLUMNS)}, accuracy and at least one "
                "other metric, separated by commas"
            )
    if repeated := [name for name in dict.fromkeys(header) if header.count(name) > 1]:
        raise InvalidSpec(f"{where}: column {shortened(repeated[0])} appears twice")
    columns = {
        name: _column(where, name, operator, variant) for name in header if name not in KEY_COLUMNS
    }
    if len(columns) == 1:
        raise InvalidSpec(
            f"{where}: no metric besides accuracy; add one of "
            f"{', '.join(sorted(METRIC_DEFINITIONS))}"
        )
    for option, value in (("--operator", operator), ("--variant", variant)):
        if value and not any(column.metric in DELETION_METRICS for column in columns.values()):
            raise InvalidSpec(
                f"{option} {value} applies to {', '.join(sorted(DELETION_METRICS))}, and {path} "
                "has none of these columns"
            )
    return columns


def _column(where: str, name: str, operator: str, variant: str) -> MetricColumn:
    choices = {metric: (metric, "") for metric in METRIC_DEFINITIONS} | {
        f"{metric}_{method}": (metric, method)
        for metric in METRIC_DEFINITIONS
        if metric in EXPLANATION_METRICS
        for method in METHODS
    }
    if name not in choices:
        near = get_close_matches(name, [*KEY_COLUMNS, *choices], n=3)
        raise InvalidSpec(
            f"{where}: column {shortened(name)!r} is not a metric; "
            + (f"perhaps {' or '.join(near)}? " if near else "")
            + f"metrics are {', '.join(METRIC_DEFINITIONS)}; metrics of explanations may end in "
            + ", ".join(f"_{method}" for method in METHODS)
        )
    metric, method = choices[name]
    settings = (operator, variant) if metric in DELETION_METRICS else ("", "")
    return MetricColumn(metric, method, *settings)


def _level(where: str, text: str) -> int:
    if not LEVEL_PATTERN.fullmatch(text) or int(text) > MAX_LEVEL:
        raise InvalidSpec(
            f"{where}, column removed_layers: {shortened(text)!r}; a level is a whole "
            f"number of removed layers from 0 to {MAX_LEVEL}"
        )
    return int(text)


def _value(where: str, text: str, column: MetricColumn) -> float:
    value = float(text) if NUMBER_PATTERN.fullmatch(text) else math.nan
    if not math.isfinite(value):
        raise InvalidSpec(
            f"{where}: {shortened(text)!r} is not a finite number; write a number like "
            "0.763, or nothing if none was reported"
        )
    low, high = value_range(
        column.metric, column.variant if column.metric in DELETION_METRICS else ""
    )
    if not low <= value <= high:
        limits = f"at least {low:g}" + (f" and at most {high:g}" if math.isfinite(high) else "")
        percent = f" (a percentage? write {value / 100:g})" if high < value <= 100 else ""
        raise InvalidSpec(
            f"{where}: {shortened(text)} is out of range: {column.metric} is {limits}{percent}"
        )
    return value


def _check_run(where: str, levels: Mapping[int, Mapping[MetricColumn, float]]) -> None:
    if 0 not in levels:
        raise InvalidSpec(
            f"{where}: no level 0, but {', '.join(map(str, sorted(levels)))}; every level is "
            "compared with the unpruned model, so add its line"
        )
    metrics = {column.metric for row in levels.values() for column in row}
    if "accuracy" not in metrics or len(metrics) == 1:
        raise InvalidSpec(
            f"{where}: it has only values of {', '.join(sorted(metrics))}; a run needs accuracy "
            "and one other metric"
        )


def _write_run(
    lake: Location, path: Path, published: PublishedRun, strategy: str
) -> tuple[str, bool]:
    rows = [
        {"level": level, **column._asdict(), "value": value}
        for level, row in published.levels.items()
        for column, value in sorted(row.items())
    ]
    identity = {
        "source": SOURCE,
        "model": published.model,
        "strategy": strategy,
        "task": published.task,
        "values_hash": content_hash(rows),
    }
    metadata = {"file": path.name}
    return write_imported_run(lake, identity, [*published.levels], metadata, {"reported": rows})
