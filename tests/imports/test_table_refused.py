"""Imports refuse tables that are damaged or incomplete."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prunelake.errors import InvalidSpec
from prunelake.imports.table import import_table, read_table
from tests.support.published_tables import HEADER, LINES, save


def cell(line: int, column: str, text: str) -> Callable[[list[list[str]]], None]:
    def change(rows: list[list[str]]) -> None:
        rows[line - 1][rows[0].index(column)] = text

    return change


def without(column: str) -> Callable[[list[list[str]]], None]:
    def change(rows: list[list[str]]) -> None:
        place = rows[0].index(column)
        for row in rows:
            del row[place]

    return change


def only(*columns: str) -> Callable[[list[list[str]]], None]:
    def change(rows: list[list[str]]) -> None:
        places = [rows[0].index(column) for column in columns]
        rows[:] = [[row[place] for place in places] for row in rows]

    return change


KEY = ("model", "task", "removed_layers")
REFUSED: dict[str, tuple[Callable[[list[list[str]]], Any], str]] = {
    "no model": (
        without("model"),
        "line 1: no column model; the line is 'task,.*columns model, task",
    ),
    "no task": (without("task"), "line 1: no column task"),
    "no level": (without("removed_layers"), "line 1: no column removed_layers"),
    "no accuracy": (without("accuracy"), "line 1: no column accuracy"),
    "no metric": (only(*KEY, "accuracy"), "line 1: no metric besides accuracy; add one of .*ece"),
    "typo": (cell(1, "ece", "eec"), "line 1: column 'eec' is not a metric; perhaps ece"),
    "typo of a method": (
        cell(1, "comprehensiveness_lime", "comprehensiveness_lmie"),
        "'comprehensiveness_lmie' is not a metric; perhaps comprehensiveness_lime .*_kernel_shap",
    ),
    "method of accuracy": (cell(1, "ece", "accuracy_lime"), "'accuracy_lime' is not a metric"),
    "no such metric": (cell(1, "ece", "zzz"), "'zzz' is not a metric; metrics are accuracy, .*ece"),
    "column twice": (cell(1, "ece", "accuracy"), "line 1: column accuracy appears twice"),
    "nameless column": (cell(1, "ece", ""), "line 1: column '' is not a metric"),
    "level twice": (
        cell(2, "removed_layers", "0"),
        r"line 3: m, rte, level 0 again \(first in line 2\)",
    ),
    "no level 0": (cell(3, "removed_layers", "4"), "m, rte: no level 0, but 2, 4"),
    "negative level": (cell(2, "removed_layers", "-2"), "line 2, column removed_layers: '-2'"),
    "fractional level": (cell(2, "removed_layers", "2.5"), "'2.5'; a level is a whole number"),
    "empty level": (cell(2, "removed_layers", ""), "line 2, column removed_layers: ''"),
    "huge level": (cell(2, "removed_layers", "2147483648"), "from 0 to 2147483647"),
    "nameless model": (cell(4, "model", " "), "line 4, column model: empty"),
    "broken model": (
        cell(4, "model", '"a\nb"'),
        r"line 5, column model: 'a\\nb' has a line break",
    ),
    "nameless task": (cell(4, "task", ""), "line 4, column task: empty"),
    "a word": (cell(4, "ece", "low"), "line 4, column ece: 'low' is not a finite number"),
    "NaN": (cell(4, "accuracy", "nan"), "line 4, column accuracy: 'nan' is not a finite number"),
    "inf": (cell(5, "kl_from_unpruned", "inf"), "line 5, column kl_from_unpruned: 'inf' is not"),
    "overflow": (cell(5, "kl_from_unpruned", "1e999"), "'1e999' is not a finite number"),
    "underscore": (cell(5, "kl_from_unpruned", "1_0"), "'1_0' is not a finite number"),
    "percent sign": (
        cell(2, "accuracy", "76%"),
        "'76%' is not a finite number; write a number like",
    ),
    "percentage": (
        cell(2, "accuracy", "76.3"),
        r"line 2, column accuracy: 76.3 is out of range: accuracy is at least 0 and at most 1 "
        r"\(a percentage\? write 0.763\)",
    ),
    "above 100": (cell(2, "accuracy", "101"), "accuracy is at least 0 and at most 1$"),
    "negative accuracy": (cell(2, "accuracy", "-0.1"), "column accuracy: -0.1 is out of range"),
    "negative ece": (cell(3, "ece", "-0.1"), "line 3, column ece: -0.1 is out of range"),
    "comprehensiveness": (
        cell(3, "comprehensiveness_lime", "-1.01"),
        "column comprehensiveness_lime: -1.01 is out of range: .* at least -1 and at most 1$",
    ),
    "negative KL": (cell(2, "kl_from_unpruned", "-1"), "kl_from_unpruned is at least 0$"),
    "short line": (lambda rows: rows[2].pop(), "line 3: 6 values for 7 columns"),
    "long line": (lambda rows: rows[2].append("1"), "line 3: 8 values for 7 columns"),
    "no value": (
        lambda rows: rows[1].__setitem__(slice(3, None), [""] * 4),
        "line 2: no value of any metric",
    ),
    "accuracy not told": (cell(4, "accuracy", ""), "m, boolq: it has only values of compre"),
    "names alone": (lambda rows: rows.__delitem__(slice(1, None)), "column names and no values"),
    "nothing": (list.clear, "table.csv is empty"),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_bad_table_is_refused_in_one_line_and_nothing_is_written(
    tmp_path: Path, change: Callable[[list[list[str]]], Any], message: str
) -> None:
    rows = [line.split(",") for line in (HEADER, *LINES)]
    change(rows)
    path = save(tmp_path, *map(",".join, rows))
    with pytest.raises(InvalidSpec, match=message) as raised:
        import_table(tmp_path / "lake", path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "lake").exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (f"{HEADER}\nm\xe9,rte,0,1,0,0,0\n".encode("latin-1"), "line 2: not UTF-8"),
        (HEADER.encode("utf-16"), "line 1: not UTF-8"),
        (f'{HEADER}\n"m,rte,0,1,0,0,0\n'.encode(), "line 2: not CSV"),
        (HEADER.replace(",", ";").encode(), "no column model; the line is 'model;task.*by commas"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(data)
    with pytest.raises(InvalidSpec, match=message):
        read_table(path)
    with pytest.raises(InvalidSpec, match="no file"):
        read_table(tmp_path / "missing.csv")


@pytest.mark.parametrize(
    "text",
    [
        '{"doc_id": 0, "doc": {"question": "' + "why? " * 5000 + '"}}',
        "model,task,removed_layers," + ",".join(f"column_{i}" for i in range(5000)),
        f"model,task,removed_layers,accuracy,{'x' * 50_000}",
        f"{HEADER}\nm,rte,0,{'1' * 50_000},0,0,0",
        f"{HEADER}\nm,rte,{'1' * 50_000},1,0,0,0",
        f"{HEADER}\nm,rte,0,1,-0.{'1' * 50_000},0,0",
        "PAR1\x15\x04\x1b[2J" + "\x00" * 5000,
    ],
    ids=["JSON", "columns", "name", "number", "level", "range", "binary"],
)
def test_an_error_quotes_only_the_beginning_of_a_wrong_file(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidSpec) as raised:
        read_table(save(tmp_path, text))
    message = str(raised.value).removeprefix(str(tmp_path))
    assert len(message) < 800
    assert "..." in message
    assert message.isprintable()


def test_a_normalised_aopc_may_exceed_1(tmp_path: Path) -> None:
    path = save(tmp_path, HEADER, "m,rte,0,0.5,0.1,1.5,0")
    (run,) = read_table(path, variant="normalised")
    assert 1.5 in run.levels[0].values()
    with pytest.raises(InvalidSpec, match="out of range"):
        read_table(path, variant="eraser")


@pytest.mark.parametrize("option", [{"operator": "replace"}, {"variant": "paper"}], ids=str)
def test_an_option_that_applies_to_no_column_is_refused(
    tmp_path: Path, option: dict[str, Any]
) -> None:
    path = save(tmp_path, "model,task,removed_layers,accuracy,ece", "m,rte,0,0.5,0.1")
    with pytest.raises(InvalidSpec, match=r"applies to comprehensiveness.* has none of these"):
        read_table(path, **option)
