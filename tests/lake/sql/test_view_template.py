"""The file of bound views in the cache: made once, and replaced when damaged."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pytest

from prunelake.lake.sql import view_template
from prunelake.lake.sql.bound_query import Connection
from prunelake.lake.sql.view_files import sql_folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the file, in an empty cache."""
    monkeypatch.setenv("PRUNELAKE_CACHE", str(tmp_path))
    return tmp_path / "views"


@pytest.fixture
def created(monkeypatch: pytest.MonkeyPatch) -> list[Connection]:
    """The connections in which the views were bound since the beginning of the test."""
    connections = []
    create = view_template._create

    def record(connection: Connection, statements: tuple[str, ...]) -> None:
        connections.append(connection)
        create(connection, statements)

    monkeypatch.setattr(view_template, "_create", record)
    return connections


def copied() -> set[str]:
    """The names of the views in a new connection that come from the files of sql/."""
    with duckdb.connect() as connection:
        view_template.copy_views(connection)
        rows = connection.execute(
            "select view_name from duckdb_views() where not internal and schema_name = 'main'"
        ).fetchall()
    return {name for (name,) in rows} - {"metric_definitions"}


VIEWS = {path.stem for path in sql_folder().rglob("*.sql")}


def test_connections_that_start_together_bind_the_views_once(
    cache: Path, created: list[Connection]
) -> None:
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda _: copied(), range(4))) == [VIEWS] * 4
    assert len(created) == 1
    assert len(list(cache.glob("*.duckdb"))) == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:0],
        lambda content: content[:5000],
        lambda content: content.replace(b"predictions", b"predictionz"),
    ],
    ids=["empty", "cut", "changed"],
)
def test_a_damaged_file_is_replaced(cache: Path, damage: Callable[[bytes], bytes]) -> None:
    copied()
    (file,) = cache.glob("*.duckdb")
    whole = file.read_bytes()
    assert damage(whole) != whole
    file.unlink()  # DuckDB may still know the file itself
    file.write_bytes(damage(whole))
    assert copied() == VIEWS
    assert len(file.read_bytes()) == len(whole)


def test_the_rest_of_a_killed_writer_is_replaced(cache: Path) -> None:
    cache.mkdir()
    for name in ("unfinished.duckdb", "unfinished.duckdb.wal"):
        (cache / name).write_bytes(b"half")
    assert copied() == VIEWS
    assert not list(cache.glob("unfinished*"))


def test_without_a_cache_every_connection_binds_the_views(
    cache: Path, created: list[Connection]
) -> None:
    cache.write_text("a file in place of the folder")
    assert copied() == copied() == VIEWS
    assert len(created) == 2


def test_files_of_old_versions_are_removed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.mkdir()
    for age in (1, 2, 3):
        file = cache / f"{age}.duckdb"
        file.write_bytes(b"old")
        os.utime(file, (-age, -age))
    monkeypatch.setattr(view_template, "MAX_TEMPLATES", 2)
    assert copied() == VIEWS
    kept = {path.name for path in cache.glob("*.duckdb")}
    assert len(kept) == 2
    assert "1.duckdb" in kept
