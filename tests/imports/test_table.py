"""Published tables of metrics become runs of the lake."""

import math
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from scipy import stats

from prunelake.cli.app import main
from prunelake.imports.table import EXPLANATION_METRICS, import_table, read_table
from prunelake.lake import read
from prunelake.lake.maintenance.verify import verify_lake
from prunelake.schema.metrics import METRIC_DEFINITIONS
from tests.support.lakes.lake_files import forget_analysis
from tests.support.published_tables import HEADER, LINES, published, save
from tests.support.runs.lake_rows import rows_of


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
    before = {path: path.read_bytes() for path in folder.glob("*/*")}
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
    assert {path: path.read_bytes() for path in folder.glob("*/*")} == before


def test_a_repeated_import_adds_a_missing_analysis(tmp_path: Path) -> None:
    folder = tmp_path / "lake"
    run_id = import_table(folder, published(tmp_path))[0][1]
    forget_analysis(folder, run_id)
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
        ",".join(("m", "rte", "0", *("1" if name == "perplexity" else "0.5" for name in names))),
    )
    (run,) = read_table(path)
    assert [(column.metric, column.method) for column in run.levels[0]] == [
        *((name, "") for name in METRIC_DEFINITIONS),
        *((name, "kernel_shap") for name in sorted(EXPLANATION_METRICS)),
    ]


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


def test_correlations_of_the_published_table_match_scipy(
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
