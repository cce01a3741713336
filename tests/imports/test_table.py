"""Published tables of metrics: their runs in the lake, and refused tables."""

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from scipy import stats

from prunelake.cli.app import main
from prunelake.errors import InvalidSpec
from prunelake.imports.table import EXPLANATION_METRICS, import_table, read_table
from prunelake.lake import read
from prunelake.lake.maintenance.verify import verify_lake
from prunelake.schema.metrics import METRIC_DEFINITIONS
from tests.support.lake_rows import rows_of

HEADER = "model,task,removed_layers,accuracy,ece,comprehensiveness_lime,kl_from_unpruned"
LINES = (
    "m,rte,2,0.5,,0.1,3.5",
    "m,rte,0,0.75,0.125,0.25,0",
    "m,boolq,0,1,0,-1,0",
    "n,rte,0,0.7,0.1,0.2,0",
)


def save(folder: Path, *lines: str) -> Path:
    path = folder / "table.csv"
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return path


def published(folder: Path) -> Path:
    return save(folder, HEADER, *LINES)


def test_each_model_and_task_becomes_a_run(tmp_path: Path) -> None:
    folder = tmp_path / "lake"
    imported = import_table(folder, published(tmp_path), "cosine", "delete_text", "paper")
    assert [(p.model, p.task, [*p.levels], is_new) for p, _, is_new in imported] == [
        ("m", "boolq", [0], True),
        ("m", "rte", [0, 2], True),
        ("n", "rte", [0], True),
    ]
    run_id = imported[1][1]
    rows = rows_of(
        folder,
        "select level, metric, method, operator, variant, value from reported "
        f"where run_id = '{run_id}' order by level, metric",
    )
    assert [tuple(row.values()) for row in rows] == [
        (0, "accuracy", None, None, None, 0.75),
        (0, "comprehensiveness", "lime", "delete_text", "paper", 0.25),
        (0, "ece", None, None, None, 0.125),
        (0, "kl_from_unpruned", None, None, None, 0.0),
        (2, "accuracy", None, None, None, 0.5),
        (2, "comprehensiveness", "lime", "delete_text", "paper", 0.1),
        (2, "kl_from_unpruned", None, None, None, 3.5),
    ]
    for name in ("reported", "metrics", "correlations"):
        key = "select run_id, metric, method, operator, variant"
        raw = rows_of(folder, f"{key} from lake.{name} order by all")
        assert raw == rows_of(folder, f"{key} from {name} order by all")
        assert {row["operator"] for row in raw} == {None, "delete_text"}
    (run,) = rows_of(folder, f"select * from runs where run_id = '{run_id}'")
    assert (run["model"], run["task"], run["strategy"]) == ("m", "rte", "cosine")
    assert (run["levels"], run["example_count"], run["device"]) == ([0, 2], 0, "imported")
    for name in ("examples", "predictions", "attributions", "deletions", "layers"):
        assert rows_of(folder, f"select * from {name}") == []
    assert verify_lake(folder) == []


def test_the_same_values_in_any_order_are_the_same_run(tmp_path: Path) -> None:
    folder = tmp_path / "lake"
    first = import_table(folder, published(tmp_path))
    before = {path: path.read_bytes() for path in folder.rglob("*.parquet")}
    frame = pl.read_csv(published(tmp_path), infer_schema=False)
    # The file as a spreadsheet saves it: byte order mark, quotes, other line ends, a blank line.
    text = (
        frame.reverse()
        .select(reversed(frame.columns))
        .write_csv(quote_style="always", line_terminator="\r\n")
    )
    (tmp_path / "table.csv").write_bytes(b"\xef\xbb\xbf" + text.encode() + b"\r\n")
    again = import_table(folder, tmp_path / "table.csv")
    assert [(run_id, is_new) for _, run_id, is_new in again] == [
        (run_id, False) for _, run_id, _ in first
    ]
    assert {path: path.read_bytes() for path in folder.rglob("*.parquet")} == before


def test_a_repeated_import_adds_a_missing_analysis(tmp_path: Path) -> None:
    folder = tmp_path / "lake"
    run_id = import_table(folder, published(tmp_path))[0][1]
    (folder / "analyses" / f"{run_id}.parquet").unlink()
    assert read.unanalysed_run_ids(folder) == [run_id]
    import_table(folder, published(tmp_path))
    assert read.unanalysed_run_ids(folder) == []


@pytest.mark.parametrize(
    "other",
    [
        {"strategy": "cosine"},
        {"operator": "replace"},
        {"variant": "eraser"},
    ],
    ids=str,
)
def test_the_description_of_the_values_is_part_of_the_run(
    tmp_path: Path, other: dict[str, Any]
) -> None:
    path = published(tmp_path)
    plain = {run_id for _, run_id, _ in import_table(tmp_path / "lake", path)}
    assert not plain & {run_id for _, run_id, _ in import_table(tmp_path / "lake", path, **other)}
    save(tmp_path, HEADER, *LINES).write_text(path.read_text("utf-8").replace("3.5", "3.6"))
    changed = {run_id for _, run_id, _ in import_table(tmp_path / "lake", path)}
    assert len(plain - changed) == 1


def test_every_metric_can_be_imported_also_with_a_method(tmp_path: Path) -> None:
    assert set(METRIC_DEFINITIONS) >= EXPLANATION_METRICS
    names = [*METRIC_DEFINITIONS, *(f"{name}_kernel_shap" for name in sorted(EXPLANATION_METRICS))]
    path = save(
        tmp_path,
        ",".join(("model", "task", "removed_layers", *names)),
        ",".join(("m", "rte", "0", *("0.5" for _ in names))),
    )
    (run,) = read_table(path)
    assert [(column.metric, column.method) for column in run.levels[0]] == [
        *((name, "") for name in METRIC_DEFINITIONS),
        *((name, "kernel_shap") for name in sorted(EXPLANATION_METRICS)),
    ]


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


def test_the_command_prints_its_runs_and_the_limits_of_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(*arguments: str) -> int:
        command = ["prunelake", "import", "table", *arguments, "--lake", str(tmp_path / "lake")]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as exit_:
            main()
        return int(exit_.value.code or 0)

    path = str(published(tmp_path))
    options = ("--operator", "delete_text", "--variant", "paper", "--strategy", "cosine")
    assert call(path, *options) == 0
    first, *others, last = capsys.readouterr().out.splitlines()
    assert first.endswith(": m, boolq, 1 level")
    assert others[0].endswith(": m, rte, 2 levels from 0 to 2")
    assert sorted(line.split()[1].strip(":") for line in (first, *others)) == read.run_ids(
        tmp_path / "lake"
    )
    assert last.startswith("A table has no examples")
    assert call(path, *options) == 0
    assert capsys.readouterr().out.count("(in the lake already)") == 3
    assert call(path, "--variant", "other") == 2
    assert "eraser" in capsys.readouterr().err
    assert call(str(save(tmp_path, HEADER))) == 1
    assert capsys.readouterr().err.startswith("error: ")


@pytest.fixture(scope="module")
def llama(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pl.DataFrame]:
    """A lake with the published table, and the table."""
    path = shared / "data" / "published" / "llama-2-7b.csv"
    folder = tmp_path_factory.mktemp("published")
    import_table(folder, path, "cosine", "delete_text", "paper")
    return folder, pl.read_csv(path)


def test_the_lake_has_the_published_values(llama: tuple[Path, pl.DataFrame]) -> None:
    folder, table = llama
    found = rows_of(folder, "select * from reported")
    names = table.columns[3:]
    assert len(found) == table.height * len(names) == 85 * 6
    by_cell = {
        (row["task"], row["level"], "_".join(filter(None, (row["metric"], row["method"])))): row
        for row in found
    }
    for line in table.iter_rows(named=True):
        for name in names:
            row = by_cell[line["task"], line["removed_layers"], name]
            assert row["value"] == line[name]
            assert row["model"] == line["model"]
            settings = ("delete_text", "paper") if row["method"] else (None, None)
            assert (row["operator"], row["variant"]) == settings


def test_correlations_of_the_published_table_are_those_of_scipy(
    llama: tuple[Path, pl.DataFrame],
) -> None:
    folder, table = llama
    found = rows_of(folder, "select * from correlations where scope = 'all'")
    names = table.columns[4:]
    assert len(found) == table["task"].n_unique() * len(names)
    for row in found:
        name = "_".join(filter(None, (row["metric"], row["method"])))
        part = table.filter(pl.col("task") == row["task"])
        for kind, function in (
            ("pearson", stats.pearsonr),
            ("spearman", stats.spearmanr),
            ("kendall", stats.kendalltau),
        ):
            expected = function(part["accuracy"], part[name]).statistic
            assert row[kind] == pytest.approx(expected, abs=1e-12), (row["task"], name, kind)
            assert row[f"{kind}_low"] is None
            assert row[f"{kind}_high"] is None
        assert row["level_count"] == part.height
        assert "without examples" in row["note"]
    assert not any(math.isnan(row["pearson"]) for row in found)
