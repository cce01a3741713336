"""The SQL files of the views, in the order in which they are created."""

import re
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

from prunelake.identity import content_hash
from prunelake.lake.sql.bound_query import sql_literal
from prunelake.schema.metrics import METRIC_DEFINITIONS

NOT_CODE = re.compile(r"--[^\n]*|'(?:[^']|'')*'")
"""Comments and text literals."""

READS = re.compile(r"\b(?:from|join)\s+([a-z_]\w*)\b(?!\.)")
"""The name of a view, CTE or macro after `from` or `join`; names of tables begin with a schema."""

CREATES = re.compile(r"\bcreate\s+(?:view|macro)\s+(\w+)")


def sql_folder() -> Path:
    """The folder of the views."""
    return Path(__file__).parents[2] / "sql"


def view_statements() -> tuple[str, ...]:
    """The statements that create all views, every view after the views that it reads.

    The first statement creates `metric_definitions`; the others are the files of sql/. The SQL of a
    file shows which views it reads. Files that do not depend on each other come in alphabetical
    order, so the order is always the same.

    Raises:
        graphlib.CycleError: views that read each other.
    """
    return (_metric_definitions_sql(), *_in_order(sql_folder()))


@cache
def _in_order(folder: Path) -> tuple[str, ...]:
    paths = sorted(folder.rglob("*.sql"), key=lambda path: path.stem)
    texts = {path.stem: path.read_text(encoding="utf-8") for path in paths}
    creator = {name: stem for stem, text in texts.items() for name in CREATES.findall(text.lower())}
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for stem, text in texts.items():
        read = {creator[name] for name in READS.findall(NOT_CODE.sub("", text)) if name in creator}
        sorter.add(stem, *sorted(read - {stem}))
    return tuple(texts[stem] for stem in sorter.static_order())


def _metric_definitions_sql() -> str:
    """The view of `METRIC_DEFINITIONS`: SQL reads directions and margins from it."""
    rows = (
        (
            name,
            metric.higher_is_better,
            metric.is_tested,
            metric.is_tested_at_margin,
            metric.margin,
        )
        for name, metric in METRIC_DEFINITIONS.items()
    )
    values = ", ".join(f"({', '.join(map(sql_literal, row))})" for row in rows)
    comment = (
        "metric. Its direction (null if neither is better), whether its difference from level 0 "
        "is tested (is_tested_at_margin: against its margin instead of 0), and its margin in its "
        "own unit: a smaller change counts as no change."
    )
    return (
        "create view metric_definitions as "
        f"from (values {values}) as t "
        "(metric, higher_is_better, is_tested, is_tested_at_margin, margin); "
        f"comment on view metric_definitions is {sql_literal(comment)}"
    )


def views_hash() -> str:
    """The identity of the views of this version: 16 hex digits of a SHA-256 over them."""
    return content_hash(sorted(view_statements()))[:16]
