"""Join levels of several sweeps into the levels of one comparison."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from prunelake.errors import InvalidSpec
from prunelake.identity import ComparisonIdentity
from prunelake.lake.read import read_table
from prunelake.lake.storage.location import Location
from prunelake.schema.run_tables import CELL_TABLES, EXAMPLES, RUNS
from prunelake.schema.table import Table


@dataclass(frozen=True)
class JoinedSweeps:
    """The rows of a comparison, from the sweeps that it compares.

    - `runs`: the row of `runs` of each level's sweep.
    - `examples`: the rows of `examples`, with the prompt tokens of the baseline.
    - `shares_tokens`: for each level, whether all its prompts have the tokens of the baseline.
    - `cells`: the rows of each table of `CELL_TABLES`, with the levels of the comparison.
    """

    runs: tuple[Mapping[str, Any], ...]
    examples: pl.DataFrame
    shares_tokens: tuple[bool, ...]
    cells: Mapping[str, pl.DataFrame]

    def copied(self) -> list[dict[str, Any]]:
        """The column `copied` of `runs`: the number of rows of each sweep by table."""
        counts: Counter[tuple[str, str]] = Counter()
        for name, rows in self.cells.items():
            for level, count in rows.group_by("level").len().iter_rows():
                counts[self.runs[level]["run_id"], name] += count
        return [
            {"run_id": run_id, "table": name, "cells": cells}
            for (run_id, name), cells in sorted(counts.items())
        ]


def join_sweeps(lake: Location, identity: ComparisonIdentity) -> JoinedSweeps:
    """The rows of a comparison, read from its sweeps.

    Raises:
        InvalidSpec: the sweeps have different rows of the task.
        LakeError, CorruptFile: as `read_table`.
    """
    ids = {item.run_id for item in identity.compared}
    tables = {
        table.name: {
            key[0]: rows
            for key, rows in read_table(lake, table.name, ids)
            .unique(table.key, maintain_order=True)
            .partition_by("run_id", as_dict=True)
            .items()
        }
        for table in (RUNS, EXAMPLES, *CELL_TABLES)
    }
    examples = [tables["examples"][item.run_id].sort("position") for item in identity.compared]
    questions = [rows.drop("run_id", "prompt_tokens") for rows in examples]
    for item, own in zip(identity.compared, questions, strict=True):
        if not own.equals(questions[0]):
            raise InvalidSpec(
                f"{item.label} and {identity.compared[0].label} were measured on different rows: "
                "the data of the task has changed between the two sweeps; compare again"
            )
    own_id = pl.lit(identity.run_id).alias("run_id")

    def joined(table: Table) -> pl.DataFrame:
        rows_by_run = tables[table.name]
        parts = [
            rows_by_run[item.run_id]
            .filter(level=item.level)
            .with_columns(own_id, level=pl.lit(number, pl.Int32()))
            for number, item in enumerate(identity.compared)
            if item.run_id in rows_by_run
        ]
        return pl.concat([table.frame([]), *parts])

    tokens = [rows["prompt_tokens"] for rows in examples]
    return JoinedSweeps(
        tuple(tables["runs"][item.run_id].row(0, named=True) for item in identity.compared),
        examples[0].with_columns(own_id),
        tuple(own.equals(tokens[0]) for own in tokens),
        {table.name: joined(table) for table in CELL_TABLES},
    )
