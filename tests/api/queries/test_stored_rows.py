"""Rows in memory: every page equals the rows of its query in DuckDB."""

from collections.abc import Iterator
from datetime import UTC, datetime

import duckdb
import pytest
from polars.testing import assert_frame_equal

from prunelake.api.queries.snapshots.snapshot import Snapshot
from prunelake.api.queries.views.stored_rows import stored_page
from prunelake.api.queries.views.view_catalog import View
from prunelake.api.queries.views.view_rows import row_page
from prunelake.schema.row_formats import to_json

# A view that snapshots store, with values of every type at which the two could differ.
VIEW = View(
    "metrics",
    "a view",
    {
        "run_id": "varchar",
        "metric": "varchar",
        "level": "integer",
        "n": "bigint",
        "is_worse": "boolean",
        "at": "timestamp with time zone",
        "value": "double",
        "small": "float",
        "scores": "double[]",
    },
)
LISTS = {
    "metric": "['ece', 'ECE', 'é', 'z', null]",
    "level": "[0, -1, 2147483647, null]",
    "n": "[0, 9223372036854775807, null]",
    "is_worse": "[true, false, null]",
    "at": "[timestamptz '2026-01-01 00:00:00+00', null]",
    "value": "['nan'::double, 'inf'::double, '-inf'::double, 0.0, -0.0, 0.1, -2.5, null]",
    "small": "['nan'::float, 0.1::float, null]",
}


@pytest.fixture(scope="module")
def snapshot() -> Iterator[Snapshot]:
    """Rows with random values of `LISTS`, of the runs a and b."""
    values = ", ".join(
        f"({texts})[1 + (random() * len({texts}))::integer % len({texts})]::{VIEW.columns[name]} "
        f"as {name}"
        for name, texts in LISTS.items()
    )
    with duckdb.connect() as connection:
        connection.execute("attach ':memory:' as prunelake")
        connection.execute("use prunelake")
        connection.execute("select setseed(0.5)")
        connection.execute(
            f"create table metrics as select if(random() < 0.5, 'a', 'b') as run_id, {values} "
            "from range(400)"
        )
        connection.execute("alter table metrics add column scores double[]")
        connection.execute("update metrics set scores = [value]")
        yield Snapshot("id", datetime(2026, 1, 1, tzinfo=UTC), 2, connection)


@pytest.mark.parametrize(
    "asked",
    [
        "",
        "order=metric",
        "order=-value,level",
        "order=value,-small",
        "order=-is_worse,is_worse,at",
        "order=-n&order=-metric",
        "level=0",
        "level=0&level=-1&metric=ECE",
        "level_lte=0&order=-level",
        "n_gt=5",
        "value=0&value=0.1",
        "value_ne=0.1",
        "value_gt=0",
        "value_lte=-1e300",
        "value_null=true",
        "small=0.1",
        "small_gte=0.1",
        "metric_ne=é",
        "metric_null=false&is_worse=true",
        "is_worse_null=true",
        "at=2026-01-01T01:00:00%2B01:00",
        "at_lt=2026-01-01T00:00:01Z",
        "scores_null=true",
        "run_id_ne=b",
        "limit=3&order=value",
    ],
)
def test_a_page_in_memory_equals_the_page_of_duckdb(snapshot: Snapshot, asked: str) -> None:
    parameters = [part.partition("=")[::2] for part in asked.split("&") if part]
    given = [("run_id", "a"), *((name, text.replace("%2B", "+")) for name, text in parameters)]
    page = row_page(VIEW, given, snapshot.id, 1000, default_limit=1000)
    stored = stored_page(page)
    assert stored is not None
    expected = snapshot.rows(page.query)
    assert_frame_equal(stored.rows(snapshot), expected)
    assert b"[" + b",".join(stored.json(snapshot)) + b"]" == to_json(snapshot.records(page.query))
    if asked != "scores_null=true":
        assert expected.height > 0


def test_the_next_page_follows(snapshot: Snapshot) -> None:
    asked = [("run_id", "b"), ("order", "level"), ("limit", "7")]
    cursor = row_page(VIEW, asked, snapshot.id, 1000).next_cursor(snapshot.id, 8)
    assert cursor is not None
    page = row_page(VIEW, [*asked, ("cursor", cursor)], snapshot.id, 1000)
    stored = stored_page(page)
    assert stored is not None
    assert_frame_equal(stored.rows(snapshot), snapshot.rows(page.query))
    assert stored.is_in_memory(snapshot)


@pytest.mark.parametrize(
    "asked",
    [
        [],
        [("run_id", "a"), ("run_id", "b")],
        [("run_id_ne", "a")],
        [("run_id", "a"), ("model", "m")],
        [("run_id", "a"), ("order", "scores")],
    ],
)
def test_other_pages_are_left_to_duckdb(snapshot: Snapshot, asked: list[tuple[str, str]]) -> None:
    assert stored_page(row_page(VIEW, asked, snapshot.id, 10)) is None
