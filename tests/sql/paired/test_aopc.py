"""Views over deletion curves: given rows and expected rows."""

import math
from pathlib import Path

from tests.support.runs.lake_rows import rows_of, write_raw
from tests.support.runs.one_run import RUN, R, areas, curve


def test_aopc_equals_values_worked_by_hand(tmp_path: Path) -> None:
    write_raw(tmp_path, RUN, deletions=curve([0.125, 0.25, 0.375]))
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
        key | {"variant": "paper", "value": 0.1875},
    ]


def test_the_area_is_null_if_a_point_is_nan(tmp_path: Path) -> None:
    write_raw(
        tmp_path,
        RUN,
        deletions=[*curve([0.5, math.nan]), *curve([0.25, 0.25], example_id="b")],
    )
    rows = rows_of(tmp_path, "select value from aopc where variant = 'eraser' order by example_id")
    assert [r["value"] for r in rows] == [None, 0.25]
    rows = rows_of(tmp_path, "select value, n from faithfulness where variant = 'eraser'")
    assert rows == [{"value": 0.25, "n": 1}]


def test_faithfulness_averages_seeds_then_examples_and_compares_with_random(tmp_path: Path) -> None:
    write_raw(
        tmp_path,
        RUN,
        deletions=[
            *curve([0.25], seed=0),
            *curve([0.5], seed=1),
            *curve([0.125], example_id="b"),
            *curve([0.0], method="random"),
            *curve([0.125], method="random", example_id="b"),
            *curve([0.125], kind="sufficiency"),
            *curve([0.5], kind="sufficiency", method="random"),
            *curve([0.75], operator="delete_text"),
        ],
    )
    rows = rows_of(
        tmp_path,
        "select operator, kind, method, value, random_value, advantage, n from faithfulness "
        "where variant = 'eraser' order by operator, kind, method",
    )
    assert [tuple(r.values()) for r in rows] == [
        ("delete_text", "comprehensiveness", "lime", 0.75, None, None, 1),
        ("replace", "comprehensiveness", "lime", 0.25, 0.0625, 0.1875, 2),
        ("replace", "comprehensiveness", "random", 0.0625, 0.0625, None, 2),
        ("replace", "sufficiency", "lime", 0.125, 0.5, 0.375, 1),
        ("replace", "sufficiency", "random", 0.5, 0.5, None, 1),
    ]


def test_advantage_compares_within_level_and_run(tmp_path: Path) -> None:
    write_raw(
        tmp_path,
        RUN,
        deletions=[
            *curve([0.25]),
            *curve([0.25], level=1),
            *curve([0.125], method="random", level=1),
        ],
    )
    rows = rows_of(
        tmp_path,
        "select level, advantage from faithfulness "
        "where variant = 'eraser' and method = 'lime' order by level",
    )
    assert [r["advantage"] for r in rows] == [None, 0.125]
