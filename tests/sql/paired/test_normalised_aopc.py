"""The normalised area: the area of a ranking between the bounds over all rankings."""

import math
from pathlib import Path
from typing import Any

import pytest

from tests.support.runs.lake_rows import RUN_NAMES, rows_of, run_row, write
from tests.support.runs.one_run import RUN, R, areas, curve

NORMALISED = "select value from aopc where variant = 'normalised'"


def bound(lower: float, upper: float, **columns: Any) -> dict[str, Any]:
    """Bounds of the same curve."""
    return {
        "run_id": R,
        "level": 0,
        "example_id": "a",
        "operator": "replace",
        "kind": "comprehensiveness",
        "lower": lower,
        "upper": upper,
        "beam_width": 3,
    } | columns


def test_bounds_shows_the_written_bounds(tmp_path: Path) -> None:
    written = [bound(-0.25, 0.5), bound(0.0, 0.25, level=1, kind="sufficiency")]
    write(tmp_path, RUN, bounds=written)
    assert rows_of(tmp_path, "from bounds order by level") == [row | RUN_NAMES for row in written]


def test_the_normalised_area_equals_values_worked_by_hand(tmp_path: Path) -> None:
    write(tmp_path, RUN, deletions=curve([0.125, 0.25, 0.375]), bounds=[bound(-0.25, 0.75)])
    key = {
        "run_id": R,
        "level": 0,
        "example_id": "a",
        "method": "lime",
        "seed": 0,
        "operator": "replace",
        "kind": "comprehensiveness",
    }
    assert areas(tmp_path) == [
        key | {"variant": "eraser", "value": 0.25},
        key | {"variant": "normalised", "value": 0.5},
        key | {"variant": "paper", "value": 0.1875},
    ]


def test_every_method_and_seed_uses_the_bounds_of_its_example_and_level(tmp_path: Path) -> None:
    places: list[dict[str, Any]] = [
        {},
        {"level": 1},
        {"example_id": "b"},
        {"operator": "delete_text"},
        {"kind": "sufficiency"},
    ]
    write(
        tmp_path,
        RUN,
        deletions=[
            row
            for place in places
            for who in ({}, {"seed": 1}, {"method": "random"})
            for row in curve([0.5], **place, **who)
        ],
        bounds=[bound(0.0, 2.0**n, **place) for n, place in enumerate(places)],
    )
    rows = rows_of(
        tmp_path,
        "select level, example_id, operator, kind, value, count(*) as n from aopc "
        "where variant = 'normalised' group by all order by value desc",
    )
    plain = (0, "a", "replace", "comprehensiveness")
    assert [tuple(row.values()) for row in rows] == [
        (*plain, 0.5, 3),
        (1, *plain[1:], 0.25, 3),
        (0, "b", *plain[2:], 0.125, 3),
        (0, "a", "delete_text", plain[3], 0.0625, 3),
        (*plain[:3], "sufficiency", 0.03125, 3),
    ]


def test_without_bounds_there_is_no_normalised_area(tmp_path: Path) -> None:
    other = run_row("other")
    write(tmp_path, other, bounds=[bound(0.0, 1.0) | {"run_id": other["run_id"]}])
    write(tmp_path, RUN, deletions=curve([0.5]))
    rows = rows_of(tmp_path, "select variant from aopc order by variant")
    assert [row["variant"] for row in rows] == ["eraser", "paper"]


@pytest.mark.parametrize(
    ("lower", "upper"),
    [(0.25, 0.25), (math.nan, math.nan), (0.0, math.nan), (0.0, math.inf), (-math.inf, 0.0)],
)
def test_the_normalised_area_is_null_if_the_bounds_are_equal_or_nan(
    tmp_path: Path, lower: float, upper: float
) -> None:
    write(tmp_path, RUN, deletions=curve([0.25]), bounds=[bound(lower, upper)])
    assert rows_of(tmp_path, NORMALISED) == [{"value": None}]
    rows = rows_of(tmp_path, "select value, n from faithfulness where variant = 'normalised'")
    assert rows == [{"value": None, "n": 0}]


def test_the_normalised_area_is_null_if_a_point_is_nan(tmp_path: Path) -> None:
    write(tmp_path, RUN, deletions=curve([0.5, math.nan]), bounds=[bound(0.0, 1.0)])
    assert rows_of(tmp_path, NORMALISED) == [{"value": None}]


def test_a_value_outside_the_bounds_is_not_clipped(tmp_path: Path) -> None:
    write(
        tmp_path,
        RUN,
        deletions=[*curve([0.75]), *curve([-0.25], seed=1)],
        bounds=[bound(0.0, 0.5)],
    )
    assert rows_of(tmp_path, f"{NORMALISED} order by seed") == [{"value": 1.5}, {"value": -0.5}]


def test_the_advantage_over_random_is_normalised_too(tmp_path: Path) -> None:
    write(
        tmp_path,
        RUN,
        deletions=[
            *curve([0.25]),
            *curve([0.5], example_id="b"),
            *curve([0.0], method="random"),
            *curve([0.25], method="random", example_id="b"),
            *curve([0.125], kind="sufficiency"),
            *curve([0.5], kind="sufficiency", method="random"),
        ],
        bounds=[
            bound(0.0, 0.5),
            bound(0.0, 1.0, example_id="b"),
            bound(0.0, 0.5, kind="sufficiency"),
        ],
    )
    rows = rows_of(
        tmp_path,
        "select kind, value, random_value, advantage, n from faithfulness "
        "where variant = 'normalised' and method = 'lime' order by kind",
    )
    assert [tuple(row.values()) for row in rows] == [
        ("comprehensiveness", 0.5, 0.125, 0.375, 2),
        ("sufficiency", 0.25, 1.0, 0.75, 1),
    ]
