"""The views of the lake: their columns, and the names of their filters."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from prunelake.errors import NotFound
from prunelake.lake.sql import views

FILTER_SUFFIXES = {
    "varchar": ("ne", "null"),
    "boolean": ("null",),
    **dict.fromkeys(
        ("integer", "bigint", "double", "float", "timestamp with time zone"),
        ("ne", "lt", "lte", "gt", "gte", "null"),
    ),
}
"""The suffixes of a column's filters, by its type; lists and structs have only `null`."""


@dataclass(frozen=True)
class View:
    """A view of the lake: its columns (name to type) in order; the comment states the grain."""

    name: str
    comment: str
    columns: Mapping[str, str]

    @cached_property
    def key(self) -> tuple[str, ...]:
        """The columns that identify a row: all except lists; measurements come last."""
        plain = [name for name, kind in self.columns.items() if kind in FILTER_SUFFIXES]
        return tuple(sorted(plain, key=lambda name: self.columns[name] in ("double", "float")))

    @cached_property
    def run_columns(self) -> tuple[str, ...]:
        """Columns of `runs` that can filter the rows although the view lacks them."""
        if "run_id" not in self.columns:
            return ()
        return tuple(name for name in ("model", "strategy", "task") if name not in self.columns)


@cache
def all_views() -> Mapping[str, View]:
    """Every view of this version by name."""
    with tempfile.TemporaryDirectory() as empty, views.connect(Path(empty)) as connection:
        described = views.describe_views(connection).to_dicts()
    return {
        row["view"]: View(
            row["view"], row["comment"], {c["name"]: c["type"] for c in row["columns"]}
        )
        for row in described
    }


def view_named(name: str) -> View:
    """A view by name.

    Raises:
        NotFound: no such view; the choices are all views.
    """
    if name not in all_views():
        raise NotFound(f"no view {name!r}; GET /views describes them", all_views())
    return all_views()[name]


def filter_names(view: View) -> list[str]:
    """The parameters that filter a view."""
    return [
        *view.run_columns,
        *(
            name
            for column, kind in view.columns.items()
            for name in (
                *([column] if kind in FILTER_SUFFIXES else []),
                *(f"{column}_{suffix}" for suffix in FILTER_SUFFIXES.get(kind, ("null",))),
            )
        ),
    ]
