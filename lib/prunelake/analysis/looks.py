"""The looks of a sequential run: what its tests showed in each round.

The run has the examples of all its rounds in the order in which they were drawn. So each look can
be computed again from the first examples. The interval of a difference is the intersection of the
intervals of all looks, and its p-value is the smallest of all looks. So a later look keeps the
decision of an earlier look. With the stated confidence, the intervals of all looks together contain
the true difference.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from prunelake.analysis.example_scores import ExampleScores, build_example_scores
from prunelake.analysis.sequential import ONE_LOOK, LookTimes, look_times
from prunelake.analysis.statistics import SIGNIFICANCE_LEVEL
from prunelake.identity import parse_identity
from prunelake.lake.sql.bound_query import Connection
from prunelake.lake.sql.views import select
from prunelake.schema.table import METRIC_KEY, TableRow
from prunelake.spec import SequentialDesign

INTERVALS = (("delta_low", "delta_high"), ("equivalence_low", "equivalence_high"))


@dataclass(frozen=True)
class LookSize:
    """The examples of one look: its rows, and its explained rows by level."""

    run_id: str
    rows: int
    explained: Mapping[int, int]


@dataclass(frozen=True)
class RunLooks:
    """The looks of one run up to the present look; none if the number of rows is fixed."""

    design: SequentialDesign | None = None
    sizes: tuple[LookSize, ...] = ()

    def times(self, level: int, is_explained: bool) -> LookTimes:
        """The times of the looks at a metric of predictions or of explanations at a level."""
        if self.design is None:
            return ONE_LOOK
        planned = self.design.planned_rows
        counts = [size.rows for size in self.sizes]
        if is_explained:
            counts = [size.explained.get(level, 0) for size in self.sizes]
            planned = dict(self.design.planned_explained).get(level, max(counts))
        return LookTimes(look_times(counts, max(1, planned)))

    def until(self, count: int) -> "RunLooks":
        """The first `count` looks."""
        return replace(self, sizes=self.sizes[:count])


FIXED = RunLooks()


def load_looks(connection: Connection) -> RunLooks:
    """The looks of the only run that the connection shows."""
    runs = select(connection, "select run_id, identity, example_count from runs")
    return looks_of_run(*runs.row(0))


def looks_of_run(run_id: str, identity_json: str, example_count: int) -> RunLooks:
    """The looks of a run, from its row of `runs`."""
    if not json.loads(identity_json).get("sequential"):
        return FIXED
    identity = parse_identity(identity_json)
    design, explain = identity.sequential, identity.explain
    assert design is not None
    explained = explain.levels or identity.levels if explain else ()
    own = {level: explain.rows_at(level, example_count) for level in explained if explain}
    earlier = (LookSize(look.run_id, look.rows, dict(look.explained)) for look in design.looks)
    return RunLooks(design, (*earlier, LookSize(run_id, example_count, own)))


def load_positions(connection: Connection, example_ids: Sequence[str]) -> Sequence[int]:
    """The positions of examples in the selection of the only run that the connection shows."""
    rows = select(connection, "select example_id, position from examples")
    positions = dict(rows.iter_rows())
    return [positions[example_id] for example_id in example_ids]


def scores_at(scores: ExampleScores, positions: Sequence[int], size: LookSize) -> ExampleScores:
    """The scores of a run as they were at an earlier look."""
    position = np.asarray(positions)
    chosen = position < size.rows
    measured = scores.metric_keys[:-2]  # `build_example_scores` adds the two parts of Brier again
    values = scores.values[:, chosen, : len(measured)].copy()
    of_explanations = np.array([key[1] != "" for key in measured], dtype=bool)
    for index, level in enumerate(scores.levels):
        count = (
            max(size.explained.values(), default=0) if level == 0 else size.explained.get(level, 0)
        )
        unexplained = position[chosen] >= count
        values[index][np.ix_(unexplained, of_explanations)] = np.nan
    return build_example_scores(
        scores.levels,
        measured,
        values,
        scores.confidence[:, chosen],
        scores.correct[:, chosen],
        tuple(
            name for name, is_chosen in zip(scores.example_ids, chosen, strict=True) if is_chosen
        ),
    )


def look_rows(looks: RunLooks, metrics_by_look: Sequence[Sequence[TableRow]]) -> Iterator[TableRow]:
    """The rows of `looks`: the tests of each look, and their decisions at the design's margin.

    `metrics_by_look` are the rows of `metrics` at each look.
    """
    assert looks.design is not None
    for number, (size, metrics) in enumerate(zip(looks.sizes, metrics_by_look, strict=True), 1):
        for row in metrics:
            if row["level"] > 0 and row["is_tested"] and row["paired_n"]:
                names = ("level", *METRIC_KEY, "delta", "p_value", *sum(INTERVALS, ()))
                yield {
                    "look": number,
                    "look_run_id": size.run_id,
                    "n": row["paired_n"],
                    "decision": decision(row, looks.design.margin),
                    **{name: row[name] for name in names},
                }


def decision(row: TableRow, margin: float) -> str | None:
    """The decision of the tests in a row of `metrics`: `equivalent`, `changed`, or None."""
    low, high, p_value = row["equivalence_low"], row["equivalence_high"], row["p_value"]
    if low is not None and low > -margin and high < margin:
        return "equivalent"
    return "changed" if p_value is not None and p_value <= SIGNIFICANCE_LEVEL else None


def combine_looks(metrics_by_look: Sequence[Sequence[TableRow]]) -> None:
    """Narrow the intervals of the last look to the intersection over all looks, in place.

    Where the intersection is empty, the interval of the last look stays.
    """
    *earlier, last = metrics_by_look
    by_key = [{_cell(row): row for row in rows} for rows in earlier]
    for row in last:
        before = [rows[_cell(row)] for rows in by_key if _cell(row) in rows]
        for low, high in INTERVALS:
            known = [(r[low], r[high]) for r in (*before, row) if _is_known(r[low], r[high])]
            if known and _is_known(row[low], row[high]):
                bounds = max(ends[0] for ends in known), min(ends[1] for ends in known)
                if bounds[0] <= bounds[1]:
                    row[low], row[high] = bounds
        if _is_known(row["p_value"]):
            known_p = [r["p_value"] for r in (*before, row) if _is_known(r["p_value"])]
            row["p_value"] = min(known_p)


def _cell(row: TableRow) -> tuple[object, ...]:
    return (row["level"], *(row[name] for name in METRIC_KEY))


def _is_known(*values: float | None) -> bool:
    return all(value is not None and not np.isnan(value) for value in values)
