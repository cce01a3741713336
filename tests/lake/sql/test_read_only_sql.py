"""Queries of users read the lake and do nothing else."""

from pathlib import Path

import duckdb
import polars as pl
import pytest

from prunelake.errors import QueryError
from prunelake.lake.commit import write_run
from prunelake.lake.sql import views
from prunelake.lake.sql.bound_query import sql_literal
from tests.support.lakes.lake_files import data_file_of
from tests.support.runs.lake_rows import identity_of, small_run

RUN_ID = identity_of("run")[1]


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """A lake of one small run, in a folder whose name needs quoting."""
    folder = tmp_path / "o'lake"
    write_run(folder, *small_run())
    return folder


@pytest.mark.parametrize(
    "text",
    [
        "select level from accuracy order by level",
        "from accuracy -- a comment at the end",
        "with a as (select 1 as x) select x from a;",
        "values (1)",
        "describe accuracy",
        "show tables",
        "summarize accuracy",
        "pivot (select level, accuracy from accuracy) on level using max(accuracy)",
        "pivot (select level, accuracy from accuracy) on level in (0, 1) using max(accuracy)",
        "select 'copy' as word",
    ],
)
def test_reading_statements_run(lake: Path, text: str) -> None:
    assert views.query_read_only(lake, text).height > 0


@pytest.mark.parametrize(
    "text",
    [
        "select $text as word from accuracy where level = $level",
        "with named as (select $text as word) from named where $level = 1",
        "from (pivot (select $text as word, level from accuracy) on level in (1) using count(*)) "
        "where $level = 1",
    ],
)
def test_values_are_bound(lake: Path, text: str) -> None:
    hostile = "'; drop view accuracy; --"
    assert views.query_read_only(lake, text, text=hostile, level=1)["word"].to_list() == [hostile]


def test_a_parameter_without_a_value_is_named(lake: Path) -> None:
    with pytest.raises(QueryError, match="level"):
        views.query_read_only(lake, "from accuracy where level = $level")


def test_rows_come_in_the_order_asked_for(lake: Path) -> None:
    actual = views.query_read_only(lake, "select level from accuracy order by level desc")
    assert actual["level"].to_list() == [1, 0]


@pytest.mark.parametrize(
    "text",
    [
        "copy (select 1) to '{outside}'",
        "copy (select 1) to '{own}' (use_tmp_file false)",
        "with x as (copy (select 1) to '{own}' (use_tmp_file false)) select 1",
        "with x as (copy (select 1) to '{outside}') select * from x",
        "with x as (copy (select 1) to '{own}' (use_tmp_file false)) "
        "pivot accuracy on level using max(accuracy)",
        "copy (pivot accuracy on level using max(accuracy)) to '{own}' (use_tmp_file false)",
        "from query('with x as (copy (select 1) to ''{own}'') select 1')",
        "explain analyze copy (select 1) to '{own}' (use_tmp_file false)",
        "create table t as select 1",
        "create table t as pivot accuracy on level using max(accuracy)",
        "drop view accuracy",
        "insert into accuracy values (1)",
        "set threads = 1",
        "attach '{outside}'",
        "install httpfs",
        "select 1; select 2",
        "",
        "select * from read_csv('/etc/hosts')",
        "select * from '{outside}'",
        "select * from glob('/etc/*')",
        "select * from python_variable",
        "select 1) union (select 2",
        "select nothing from accuracy",
        "selekt 1",
    ],
)
def test_statements_that_do_more_than_read_are_refused(
    lake: Path, tmp_path: Path, text: str
) -> None:
    python_variable = pl.DataFrame({"a": [1]})
    outside = tmp_path / "outside.parquet"
    python_variable.write_parquet(outside)
    own = data_file_of(lake, "predictions", RUN_ID)
    views.query(lake, "from runs")  # remembers the checked files
    before = (own.read_bytes(), outside.read_bytes(), sorted(tmp_path.rglob("*")))
    paths = {"own": own, "outside": outside}
    quoted = {name: sql_literal(str(path))[1:-1] for name, path in paths.items()}
    with pytest.raises(QueryError) as raised:
        views.query_read_only(lake, text.format(**quoted))
    assert "\n" not in str(raised.value)
    assert before == (own.read_bytes(), outside.read_bytes(), sorted(tmp_path.rglob("*")))


def test_a_refused_query_names_the_reason_and_the_remedy(lake: Path) -> None:
    with pytest.raises(QueryError, match=r"Table with name metricz .*metrics.*`prunelake views`"):
        views.query_read_only(lake, "select * from metricz")
    with pytest.raises(QueryError, match="2 statements; give exactly one SELECT"):
        views.query_read_only(lake, "select 1; select 2")
    with pytest.raises(QueryError, match="DROP does more than read"):
        views.query_read_only(lake, "drop view metrics")


def test_a_connection_reads_only_files_of_the_lake(lake: Path, tmp_path: Path) -> None:
    connection = views.connect(lake)
    for text in (
        "select * from read_text('/etc/hosts')",
        f"copy (select 1) to '{tmp_path / 'new.csv'}'",
        "copy (select 1) to '" + str(lake / "new.csv").replace("'", "''") + "'",
    ):
        with pytest.raises(duckdb.PermissionException):
            connection.execute(text)
    with pytest.raises(duckdb.InvalidInputException, match="locked"):
        connection.execute("set enable_external_access = true")
