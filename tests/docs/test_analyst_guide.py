"""docs/analyst.md: its tables name existing views, and its code runs on its lake."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from polars.testing import assert_frame_equal
from scipy.stats import false_discovery_control

from prunelake.analysis.analyse import analyse
from prunelake.lake.publish import publish
from prunelake.lake.sql import views
from tests.support.paths import ROOT
from tests.support.runs.analyst_guide_runs import GUIDE, LOST, QUESTIONS, answered_run
from tests.support.runs.example_runs import explained_run, judged_run
from tests.support.runs.lake_rows import identity_of

SQL_FOLDER = ROOT / "sql"
SQL = re.findall(r"^```sql\n(.*?)^```", GUIDE, re.DOTALL | re.M)
OTHER_MARGINS = SQL[0]
(FROM_SNAPSHOT,) = re.findall(r"^```python\n(.*?)^```", GUIDE, re.DOTALL | re.M)


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The views with their comments and columns."""
    lake = tmp_path_factory.mktemp("described")
    explained_run(lake)
    with views.connect(lake) as connection:
        return views.describe_views(connection).to_dicts()


def test_twenty_questions_and_an_example_hold_every_sql_block() -> None:
    assert list(QUESTIONS) == list(range(1, 21))
    assert [OTHER_MARGINS, *QUESTIONS.values()] == SQL


def test_the_sql_of_the_guide_is_written_like_that_of_the_views() -> None:
    # In a process of its own: sqlfluff's metaclasses break what beartype checks for Prefect.
    linted = subprocess.run(
        [sys.executable, "-m", "sqlfluff", "lint", "--disable-progress-bar", "-"],
        cwd=SQL_FOLDER.parent,
        input=";\n\n".join(sql.rstrip() for sql in SQL) + ";\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert linted.returncode == 0, linted.stdout


def test_the_table_names_every_view_with_its_grain_and_columns_it_has(
    described: list[dict[str, Any]],
) -> None:
    listed = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+) \|$", GUIDE, re.M)
    assert {view: grain for view, grain, _ in listed} == {
        row["view"]: re.split("[:.]", row["comment"])[0] for row in described
    }, "docs/analyst.md, the tables of views"
    assert len(listed) == len(described)
    columns = {row["view"]: {column["name"] for column in row["columns"]} for row in described}
    for view, _, named in listed:
        others = {"_delta", "_verdict", "overlap_matrix"}
        assert set(re.findall(r"`(\w+)`", named)) - others <= columns[view], view


def test_the_statistics_columns_and_verdicts_exist(described: list[dict[str, Any]]) -> None:
    columns = {column["name"] for row in described for column in row["columns"]}
    (table,) = re.findall(r"^\| Columns \| Meaning \|\n(.*?)\n\n", GUIDE, re.DOTALL | re.M)
    named = re.findall(r"`(\w+)`", "".join(line.split(" | ")[0] for line in table.splitlines()))
    assert set(named) - {"n"} <= columns
    (table,) = re.findall(r"^\| Verdict \| Says \|\n\| -- \| -- \|\n(.*?)\n\n", GUIDE, re.S | re.M)
    words = re.findall(r"^\| ([\w ]+) \|", table, re.M)
    macro = (SQL_FOLDER / "comparisons/verdicts.sql").read_text(encoding="utf-8")
    cases = macro.split(" end as verdict")[0]
    assert set(words) == set(re.findall(r"(?:then|else) '([\w ]+)'$", cases, re.M))


def test_the_example_of_other_margins_judges_one_run_by_itself(tmp_path: Path) -> None:
    judged_run(tmp_path, "other")
    answered_run(tmp_path, "slipping", LOST)
    run_id = identity_of("slipping")[1]
    found = {
        (row["level"], row["metric"]): row
        for row in views.query(
            tmp_path, OTHER_MARGINS.replace("0123456789abcdef", run_id)
        ).to_dicts()
    }
    assert found[4, "ece"]["verdict"] == "hidden degradation"
    tested = views.query(
        tmp_path,
        f"select level, metric, p_value from verdicts_at(metric_margin := 0.01, "
        f"run_ids := ['{run_id}']) where p_value is not null",
    )
    adjusted = false_discovery_control(tested["p_value"].to_numpy())
    for (level, metric, _), p in zip(tested.iter_rows(), adjusted, strict=True):
        assert found[level, metric]["p_adjusted"] == pytest.approx(p)


def test_the_python_on_the_snapshot_runs_beside_the_lake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = tmp_path / "lake"
    explained_run(lake)
    publish(lake, analyse)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(FROM_SNAPSHOT, names)
    assert_frame_equal(
        names["summary"].sort("run_id", "level"),
        views.query(lake, "from summary order by run_id, level"),
    )
