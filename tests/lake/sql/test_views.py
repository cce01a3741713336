"""The views of a lake: their rows, and the errors of damaged lakes."""

import re
from pathlib import Path

import polars as pl
import pytest

from prunelake.errors import CorruptFile, LakeError, WrongFormat
from prunelake.lake.commit import write_analysis, write_run
from prunelake.lake.sql import views
from prunelake.lake.sql.view_files import sql_folder
from prunelake.schema.analysis_tables import ANALYSIS_VERSION
from prunelake.schema.metrics import METRIC_DEFINITIONS
from prunelake.schema.run_tables import RUN_TABLES
from prunelake.schema.tables import ALL_TABLES
from tests.support.lakes.lake_files import data_file_of, flip_byte, manifest_of, set_format_version
from tests.support.runs.lake_rows import bound, identity_of, small_analysis, small_run

RUN_ID = identity_of("run")[1]


VIEWS = {path.stem for path in sql_folder().rglob("*.sql")} | {"metric_definitions"}


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """A lake of one small run, in a folder whose name needs quoting."""
    folder = tmp_path / "o'lake"
    write_run(folder, *small_run())
    return folder


def test_every_view_has_a_comment_that_names_its_grain(lake: Path) -> None:
    described = views.describe_views(views.connect(lake))
    assert set(described["view"]) == VIEWS
    for comment in described["comment"]:
        assert re.match(r"((run|strategy|profile)(: one| x [a-z]+)|metric\.)", comment), comment
        assert "\n" not in comment


def test_every_view_file_creates_the_view_of_its_name() -> None:
    created = {path.stem: path.read_text() for path in sql_folder().rglob("*.sql")}
    for name, text in created.items():
        assert f"\ncreate view {name} as\n" in f"\n{text}"
        assert f"\ncomment on view {name} is\n" in text


def test_sql_reads_the_margins_and_directions_of_the_schema(lake: Path) -> None:
    actual = views.query(lake, "from metric_definitions").rows_by_key("metric", named=True)
    assert actual.keys() == METRIC_DEFINITIONS.keys()
    for name, (row,) in actual.items():
        definition = METRIC_DEFINITIONS[name]
        assert row == {column: getattr(definition, column) for column in row}
    defaults = re.findall(
        r"margin := (\S+?),", "".join(path.read_text() for path in sql_folder().rglob("*.sql"))
    )
    assert set(defaults) == {"null"}  # the margin of the metric


def test_an_empty_lake_has_the_same_columns_and_types_as_a_full_one(
    lake: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    full = views.describe_views(views.connect(lake))
    assert views.describe_views(views.connect(empty)).equals(full)
    for name in VIEWS - {"metric_definitions"}:
        assert views.query(empty, f"from {name}").is_empty()


@pytest.mark.parametrize("name", ALL_TABLES)
def test_lake_relations_have_the_columns_of_their_table(lake: Path, name: str) -> None:
    actual = views.query(lake, f"from lake.{name}")
    expected = ALL_TABLES[name].schema
    assert actual.columns == list(expected)
    assert [str(t) for t in actual.dtypes] == [str(t) for t in expected.values()]


def test_kept_rows_are_read_from_no_file_again(lake: Path) -> None:
    with views.connect(lake) as connection:
        expected = views.select(connection, "from attribution_pairs order by all")
        views.keep_rows(connection, "compared_ranks")
        actual = views.select(connection, "from attribution_pairs order by all")
        plan = str(connection.sql("explain from attribution_pairs").fetchall())
    assert actual.equals(expected)
    assert not actual.is_empty()
    assert "kept_compared_ranks" in plan
    assert "READ_PARQUET" not in plan


def test_only_complete_runs_are_visible(lake: Path) -> None:
    write_run(lake, *small_run("second"))
    second = identity_of("second")[1]
    assert views.query(lake, "select count(*) as n from predictions")["n"].item() == 4
    manifest_of(lake, second).unlink()
    actual = views.query(lake, "select distinct run_id from predictions")
    assert actual["run_id"].to_list() == [RUN_ID]


def test_optional_tables_are_those_that_runs_list(lake: Path) -> None:
    run, written = small_run("bounded")
    row = bound(str(run["run_id"]), 0, "test:0")
    write_run(lake, run, written | {"bounds": RUN_TABLES["bounds"].frame([row])})
    assert views.query(lake, "from lake.bounds").to_dicts() == [row]
    data_file_of(lake, "bounds", str(run["run_id"])).unlink()
    assert views.query(lake, "from lake.bounds").is_empty()
    assert views.query(lake, "from runs")["run_id"].to_list() == [RUN_ID]


def test_derived_tables_have_complete_runs_of_this_version_only(lake: Path) -> None:
    for name in ("older", "lost"):
        write_run(lake, *small_run(name))
    older, lost = (identity_of(name)[1] for name in ("older", "lost"))
    write_analysis(lake, *small_analysis(RUN_ID))
    write_analysis(lake, *small_analysis(lost))
    write_analysis(lake, *small_analysis(older, analysis_version=ANALYSIS_VERSION - 1))
    manifest_of(lake, lost).unlink()
    for name in ("analyses", "metrics"):
        assert views.query(lake, f"from lake.{name}")["run_id"].to_list() == [RUN_ID]


def test_a_connection_to_chosen_runs_opens_no_others(lake: Path) -> None:
    other = identity_of("other")[1]
    write_run(lake, *small_run("other"))
    for run_id in (RUN_ID, other):
        write_analysis(lake, *small_analysis(run_id))
    for path in lake.glob(f"*/{other}*"):
        path.write_bytes(b"damaged")
    with views.connect(lake, [RUN_ID]) as connection:
        for name in ("runs", "predictions", "lake.metrics"):
            actual = views.select(connection, f"select distinct run_id from {name}")
            assert actual["run_id"].to_list() == [RUN_ID]
    with views.connect(lake, []) as connection:
        assert views.select(connection, "from runs").is_empty()
    with pytest.raises(LakeError, match=r"no complete run 'absent' in .* it has 1 runs"):
        views.connect(lake, ["absent"])


def test_the_session_is_in_utc(lake: Path) -> None:
    actual = views.query(lake, "select created_at, hour(created_at) as hour from runs")
    assert actual["hour"].item() == 3
    assert actual.schema["created_at"] == pl.Datetime("us", "UTC")


def test_a_cursor_sees_the_same_views(lake: Path) -> None:
    with views.connect(lake) as connection, connection.cursor() as cursor:
        assert views.select(cursor, "from accuracy").height == 2


def test_no_lake_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="no lake at"):
        views.connect(tmp_path / "absent")


def test_another_format_version_is_refused(lake: Path) -> None:
    set_format_version(manifest_of(lake, RUN_ID), 1)
    with pytest.raises(WrongFormat, match="format 1"):
        views.query(lake, "from accuracy")


@pytest.mark.parametrize("damage", ["truncated", "missing", "another schema", "flipped"])
@pytest.mark.parametrize("name", ["runs", "predictions"])
def test_a_damaged_file_hides_its_run_and_is_named(lake: Path, name: str, damage: str) -> None:
    write_run(lake, *small_run("other"))
    expected = views.query(lake, "from accuracy order by all").filter(pl.col("run_id") != RUN_ID)
    path = data_file_of(lake, name, RUN_ID)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-20])
    elif damage == "missing":
        path.unlink()
    elif damage == "another schema":
        pl.DataFrame({"x": [1]}).write_parquet(path)
    else:
        flip_byte(path)
    assert views.query(lake, "from accuracy order by all").equals(expected)
    assert RUN_ID not in views.query(lake, "from runs")["run_id"]
    (row,) = views.query(lake, "from damaged_runs").to_dicts()
    assert (row["run_id"], row["file"]) == (RUN_ID, f"{name}/{path.name}")
    assert ("missing" if damage == "missing" else "SHA-256 differs") in row["problem"]
    assert row["remedy"].endswith("run `prunelake doctor --quarantine` and sweep again")
    with pytest.raises(CorruptFile, match=re.escape(str(path))):
        views.connect(lake, [RUN_ID])


def test_a_damaged_segment_manifest_has_a_row_without_a_run(lake: Path) -> None:
    path = lake / "runs" / "segment-0123456789abcdef.1.json"
    path.write_bytes(b"no manifest")
    (row,) = views.query(lake, "from damaged_runs").to_dicts()
    assert (row["run_id"], row["file"]) == (None, f"runs/{path.name}")
    assert views.query(lake, "from runs")["run_id"].to_list() == [RUN_ID]
