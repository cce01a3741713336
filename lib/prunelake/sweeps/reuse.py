"""Reuse: cells that a sweep copies from other runs of the lake.

A cell is the smallest piece of evidence: a row of `predictions`, `attributions`, `deletions`,
`bounds` or `texts`. Two runs share a cell if they agree in:

- the weights, the model's own code, the set of removed parts, the number format and the special
  tokens;
- the prompt, the options and their lengths; the gold option does not matter;
- for texts also the number of new tokens;
- for explanations also the example's id, which seeds masks and random rankings, the method, the
  seed, and the settings that determine the numbers (`Explanation.method_settings`).

Therefore all strategies share the cells of level 0, and two strategies of one unit share the levels
at which they remove the same layers.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from prunelake.errors import CorruptFile
from prunelake.identity import RunIdentity
from prunelake.lake.donors import Donor, donors
from prunelake.lake.partial_runs import CopiedCells
from prunelake.lake.storage.location import Location
from prunelake.schema.run_tables import (
    ATTRIBUTIONS,
    BOUNDS,
    CELL_TABLES,
    DELETIONS,
    PREDICTIONS,
    TEXTS,
)
from prunelake.schema.table import Table
from prunelake.spec import removed_parts
from prunelake.sweeps.plan import SweepPlan
from prunelake.sweeps.run_rows import example_rows

NOT_IN_CELLS = {
    # They select rows and levels.
    *("task", "data_hash", "levels", "sequential", "harness"),
    # They determine the removal order; `_removes_same` compares the removed parts.
    *("strategy", "calibration_hash", "search_hash"),
    # `_donor_cells` compares the settings of each explanation and text.
    *("explain", "texts"),
}
"""The fields of `RunIdentity` in which two runs with common cells may differ.

All other fields are part of the key of every cell.
"""

CONTENT = ("prompt", "options")
"""The columns of `examples` on which a log-likelihood depends."""


@dataclass(frozen=True)
class KnownCells:
    """The cells of a run that other runs have: rows of this run, for each of `CELL_TABLES`.

    The additional column `donor` has the id of the run from which a row is copied.
    """

    frames: Mapping[str, pl.DataFrame]

    @classmethod
    def none(cls) -> "KnownCells":
        """No cells."""
        donor = pl.lit(None, pl.String).alias("donor")
        return cls({table.name: table.frame([]).with_columns(donor) for table in CELL_TABLES})

    def of_examples(
        self, example_ids: Sequence[str], explained_levels: Sequence[int]
    ) -> tuple[dict[str, pl.DataFrame], tuple[CopiedCells, ...]]:
        """The rows of these examples by table, and their numbers by donor.

        Explanations are included only at `explained_levels`.
        """
        is_own = pl.col("example_id").is_in(example_ids)
        is_explained = is_own & pl.col("level").is_in(explained_levels)
        own = {
            name: frame.filter(is_own if name in (PREDICTIONS.name, TEXTS.name) else is_explained)
            for name, frame in self.frames.items()
        }
        copied = tuple(
            CopiedCells(donor, name, count)
            for name, frame in own.items()
            for donor, count in frame.group_by("donor").len().sort("donor").iter_rows()
        )
        return {name: frame.drop("donor") for name, frame in own.items()}, copied


def find_known_order(
    lake: Location, plan: SweepPlan, log: Callable[[str], None]
) -> tuple[str, pl.DataFrame] | None:
    """The id and the rows of `layers` of a run that has the removal order of a plan, or None.

    Behind the deepest level of the plan, the order may come from a deeper search.
    """
    for donor in reversed([*_donors(lake, plan)]):
        if _has_same_order(donor.identity, plan.identity):
            try:
                layers = donor.read("layers")
            except CorruptFile as error:
                log(f"warning: {error}; its removal order is not reused")
                continue
            return donor.run_id, layers.with_columns(run_id=pl.lit(plan.identity.run_id))
    return None


def find_cells(
    lake: Location, plan: SweepPlan, removal_order: Sequence[int], log: Callable[[str], None]
) -> KnownCells:
    """The cells of a plan that other runs of the lake have.

    A damaged run is not used, and the log gets a warning.
    """
    parts = [KnownCells.none().frames]
    examples = (
        example_rows(plan)
        .select("example_id", "gold", "position", *CONTENT)
        .with_columns(
            pl.Series(
                "own_bytes",
                [example.example.option_bytes for example in plan.examples],
                PREDICTIONS.schema["option_bytes"],
            )
        )
    )
    for donor in _donors(lake, plan):
        try:
            parts.append(_donor_cells(donor, plan, removal_order, examples))
        except CorruptFile as error:
            log(f"warning: {error}; run {donor.run_id} is not reused")
    found = {
        table.name: pl.concat([part[table.name] for part in parts if table.name in part])
        for table in CELL_TABLES
    }
    predictions = _last_of_each(PREDICTIONS, found["predictions"])
    # An explanation belongs to a prediction. Near a tie, rounding can change the prediction.
    same_prediction = _agreeing(PREDICTIONS, found["predictions"], predictions, "prediction")
    attributions, bounds = (
        _last_of_each(table, _semi_join(found[table.name], same_prediction))
        for table in (ATTRIBUTIONS, BOUNDS)
    )
    # A curve belongs to a ranking. Rounding can change the ranking.
    same_scores = _agreeing(ATTRIBUTIONS, found["attributions"], attributions, "scores")
    deletions = _last_of_each(DELETIONS, _semi_join(found["deletions"], same_scores))
    return KnownCells(
        {
            "predictions": predictions,
            "attributions": attributions,
            "deletions": deletions,
            "bounds": bounds,
            "texts": _last_of_each(TEXTS, found["texts"]),
        }
    )


def _donors(lake: Location, plan: SweepPlan) -> Iterator[Donor]:
    """The other runs whose cells can be cells of the plan: the same model, run in the same way."""
    own = plan.identity
    in_cells = RunIdentity.model_fields.keys() - NOT_IN_CELLS
    for donor in donors(lake, own.revision):
        theirs = donor.identity
        is_same = all(getattr(theirs, name) == getattr(own, name) for name in in_cells)
        if is_same and donor.run_id != own.run_id:
            yield donor


def _has_same_order(theirs: RunIdentity, own: RunIdentity) -> bool:
    same_inputs = (theirs.strategy, theirs.calibration_hash, theirs.search_hash) == (
        own.strategy,
        own.calibration_hash,
        own.search_hash,
    )
    is_deep_enough = not own.strategy.is_greedy or theirs.levels[-1] >= own.levels[-1]
    return same_inputs and is_deep_enough


def _donor_cells(
    donor: Donor, plan: SweepPlan, removal_order: Sequence[int], own_examples: pl.DataFrame
) -> dict[str, pl.DataFrame]:
    """The rows of one donor that are cells of the plan, as rows of the plan's run."""
    examples = (
        donor.read("examples")
        .select(*CONTENT, donor_example="example_id")
        .join(own_examples, on=CONTENT)
        .drop(CONTENT)
    )
    if examples.is_empty():
        return {}
    levels = [
        level
        for level in plan.levels
        if level in donor.identity.levels and _removes_same(donor, plan, removal_order, level)
    ]
    ids = (pl.lit(plan.identity.run_id).alias("run_id"), pl.lit(donor.run_id).alias("donor"))
    cells = {
        "predictions": donor.read("predictions")
        .filter(pl.col("level").is_in(levels))
        .drop("gold")
        .rename({"example_id": "donor_example"})
        .join(examples, on="donor_example")
        .filter(pl.col("option_bytes") == pl.col("own_bytes"))
        .with_columns(
            *ids,
            is_correct=pl.col("prediction") == pl.col("gold"),
            is_correct_norm=pl.col("prediction_norm") == pl.col("gold"),
        )
        .select(*PREDICTIONS.schema, "donor")
    }
    texts, their_texts = plan.texts, donor.identity.texts
    if texts and their_texts and texts.new_tokens == their_texts.new_tokens:
        cells["texts"] = (
            donor.read("texts")
            .filter(pl.col("level").is_in(levels))
            .rename({"example_id": "donor_example"})
            .join(examples.filter(pl.col("position") < texts.rows), on="donor_example")
            .with_columns(*ids)
            .select(*TEXTS.schema, "donor")
        )
    theirs, own = donor.identity.explain, plan.explanation
    if theirs is None or own is None:
        return cells
    explained = examples.filter(
        pl.col("position") < len(plan.explained_examples),
        pl.col("donor_example") == pl.col("example_id"),
    )
    explained_levels = [level for level in levels if level in (own.levels or plan.levels)]
    rankings = pl.DataFrame(
        [
            (method, seed)
            for method, seed in own.rankings
            if theirs.method_settings(method) == own.method_settings(method)
        ],
        schema={name: ATTRIBUTIONS.schema[name] for name in ("method", "seed")},
        orient="row",
    )
    operators = [
        operator
        for operator in own.operators
        if operator != "replace" or theirs.baseline_token == own.baseline_token
    ]

    def explanations(table: Table) -> pl.DataFrame:
        rows = donor.read(table.name).filter(pl.col("level").is_in(explained_levels))
        return _semi_join(rows, explained.select("example_id")).with_columns(*ids)

    cells["attributions"] = _semi_join(explanations(ATTRIBUTIONS), rankings)
    cells["deletions"] = _semi_join(explanations(DELETIONS), rankings).filter(
        pl.col("operator").is_in(operators), pl.col("fraction").is_in(own.fractions)
    )
    if (theirs.bounds_beam, theirs.fractions) == (own.bounds_beam, own.fractions):
        cells["bounds"] = explanations(BOUNDS).filter(pl.col("operator").is_in(operators))
    return cells


def _removes_same(donor: Donor, plan: SweepPlan, removal_order: Sequence[int], level: int) -> bool:
    """Whether a level of the donor and of the plan lack the same parts."""
    is_same_unit = donor.identity.strategy.unit == plan.identity.strategy.unit
    theirs, own = (
        {*removed_parts(order, level, plan.source.layer_count)}
        for order in (donor.removal_order, removal_order)
    )
    return level == 0 or (is_same_unit and theirs == own)


def _last_of_each(table: Table, rows: pl.DataFrame) -> pl.DataFrame:
    """The last row of each cell, which comes from the newest run."""
    return rows.unique(table.key[1:], keep="last", maintain_order=True)


def _agreeing(table: Table, rows: pl.DataFrame, chosen: pl.DataFrame, column: str) -> pl.DataFrame:
    """The donor and the cell of all rows that equal the chosen row of their cell in a column."""
    cell = table.key[1:]
    beside = rows.join(chosen.select(*cell, pl.col(column).alias("chosen")), on=cell)
    return beside.filter(pl.col(column) == pl.col("chosen")).select("donor", *cell)


def _semi_join(rows: pl.DataFrame, keys: pl.DataFrame) -> pl.DataFrame:
    """The rows whose values in the columns of `keys` equal a row of `keys`."""
    return rows.join(keys, on=keys.columns, how="semi")
