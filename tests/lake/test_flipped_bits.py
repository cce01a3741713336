"""A flipped bit in any file of a lake hides its run, analysis or profile, and changes no number."""

import random
import shutil
from datetime import timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from prunelake.analysis.analyse import analyse
from prunelake.lake import read
from prunelake.lake.files.entries import retire_owner
from prunelake.lake.maintenance.compact import compact
from prunelake.lake.maintenance.garbage import collect_garbage
from prunelake.lake.publish import publish
from prunelake.lake.sql import views
from prunelake.lake.sql.bound_query import Connection, attach
from prunelake.schema.tables import ALL_TABLES
from tests.support.endurance import repeats
from tests.support.lakes.compacted_lakes import add_run
from tests.support.lakes.lake_files import entry_of, group_of, stored_manifest
from tests.support.runs.lake_rows import identity_of
from tests.support.runs.profile_rows import profiled

Hidden = tuple[str, str]
"""An owner table and an entry: all that a damaged file may hide."""

Answers = dict[str, pl.DataFrame]

RELATIONS = (*(f"lake.{name}" for name in ALL_TABLES), "accuracy", "agreement", "metrics", "costs")

FLIPS = repeats(20, 200)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs in a segment, two runs with their own files, and a profile."""
    folder = tmp_path_factory.mktemp("flipped") / "lake"
    add_run(folder, "one")
    add_run(folder, "bounded")
    compact(folder)
    collect_garbage(folder, timedelta(0))
    add_run(folder, "three")
    add_run(folder, "bounded later")
    profiled(folder)
    read.read_content(folder)
    return folder


def answers(connection: Connection) -> Answers:
    return {name: views.select(connection, f"from {name} order by all") for name in RELATIONS}


def hidden_by(path: Path) -> Hidden:
    return group_of(path.parent.name).owner_table.name, entry_of(path)


class Expected:
    """The answers of the lake without some runs, analyses or profiles: these are retired."""

    def __init__(self, lake: Path, folder: Path) -> None:
        self._lake = lake
        self._folder = folder
        self._known: dict[Hidden, Answers] = {}

    def without(self, path: Path) -> Answers:
        """The answers without the owners of a file."""
        key = hidden_by(path)
        if key not in self._known:
            copy = shutil.copytree(self._lake, self._folder / str(len(self._known)))
            retire_owners(copy, path)
            with views.connect(copy) as connection:
                self._known[key] = answers(connection)
        return self._known[key]


def retire_owners(lake: Path, path: Path) -> None:
    """Retire the runs, analyses or profiles that a file of this name holds."""
    group = group_of(path.parent.name)
    for manifest in read.read_content(lake).group(group):
        if entry_of(path) == manifest.name.entry:
            for owner_id in manifest.run_ids:
                retire_owner(lake, group, manifest, owner_id)


def flips(lake: Path, count: int) -> list[tuple[Path, int, int]]:
    """Files, positions and bits: all tables in turn, manifests and data files."""
    choose = random.Random(21)
    tables = [name for name in ALL_TABLES if (lake / name).is_dir()]
    chosen = []
    for number in range(count):
        files = sorted((lake / tables[number % len(tables)]).iterdir())
        path = choose.choice(files)
        chosen.append((path, choose.randrange(path.stat().st_size), 1 << choose.randrange(8)))
    return chosen


def flip(path: Path, position: int, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= bit
    path.write_bytes(content)


def test_no_flipped_bit_changes_an_answer(lake: Path, tmp_path: Path) -> None:
    expected = Expected(lake, tmp_path)
    for path, position, bit in flips(lake, FLIPS):
        flip(path, position, bit)
        with views.connect(lake) as connection:
            actual = answers(connection)
            damaged = views.select(connection, "from damaged_runs")
        assert set(damaged["file"]) == {str(path.relative_to(lake))}, (path, position)
        for name, rows in expected.without(path).items():
            assert_frame_equal(actual[name], rows)
        flip(path, position, bit)
    with views.connect(lake) as connection:
        assert views.select(connection, "from damaged_runs").is_empty()
        assert views.select(connection, "from runs").height == 4


@pytest.mark.parametrize("table", ["predictions", "metrics"])
def test_no_flipped_bit_is_published(lake: Path, tmp_path: Path, table: str) -> None:
    """A damaged run is hidden; a damaged analysis is computed again before it is published."""
    copy, without = (shutil.copytree(lake, tmp_path / name) for name in ("copy", "without"))
    path = stored_manifest(copy, identity_of("three")[1], table).file(table)
    assert isinstance(path, Path)
    retire_owners(without, path)
    flip(path, path.stat().st_size // 2, 4)
    actual, expected = (published_answers(publish(each, analyse)) for each in (copy, without))
    assert actual["accuracy"].height == (8 if table == "metrics" else 6)
    for name, rows in expected.items():
        assert_frame_equal(
            actual[name].drop("analysed_at", strict=False), rows.drop("analysed_at", strict=False)
        )


def published_answers(path: Path) -> Answers:
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        attach(connection, path, "published")
        connection.execute("use published")
        return answers(connection)
