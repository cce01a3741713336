"""What one run says of each example, as arrays on common axes, for the statistics above it."""

from dataclasses import dataclass

import duckdb
import numpy as np
import polars as pl
from numpy.typing import NDArray

from prunelake.calibration import brier_split
from prunelake.tables import CELL, CELL_SCHEMA
from prunelake.views import select

Array = NDArray[np.float64]
Cell = tuple[str, str, str, str]
"""metric, method, operator, variant; '' where one does not apply."""

PREDICTED: tuple[Cell, ...] = tuple(
    (name, "", "", "")
    for name in (
        *("accuracy", "accuracy_norm", "brier", "nll", "mean_confidence", "kl_from_unpruned"),
        *("flip_rate", "harmful_flip_rate", "beneficial_flip_rate"),
    )
)
"""What every run has, if only to say that no example could be scored."""


@dataclass(frozen=True)
class Evidence:
    """One run: NaN where it says nothing of an example at a level. Level 0 is one of its levels.

    `values` is [levels, examples, cells]: the mean over examples of a cell is its metric.
    `confidence` and `correct` are [levels, examples], of the examples that could be scored.
    `optimism` [levels] is the third part of `calibration.brier_split`. `examples` are their ids.
    """

    levels: tuple[int, ...]
    cells: tuple[Cell, ...]
    values: Array
    confidence: Array
    correct: Array
    optimism: Array
    examples: tuple[str, ...]

    @property
    def is_explained(self) -> NDArray[np.bool_]:
        """Which examples have a value of any explanation, at whatever level: [examples]."""
        explanations = np.array([method != "" for _, method, _, _ in self.cells], dtype=bool)
        known = ~np.isnan(self.values[:, :, explanations])
        explained: NDArray[np.bool_] = np.logical_or.reduce(known, axis=(0, 2))
        return explained


@dataclass(frozen=True)
class Options:
    """What one run says of each option, on the levels and examples of its Evidence.

    `log_likelihoods` is [levels, examples, options], shifted by their maximum: NaN throughout an
    example that could not be scored, -inf where an example has fewer options. `gold` is [levels,
    examples], -1 where nothing is known; `prompts` [examples].
    """

    log_likelihoods: Array
    gold: NDArray[np.int64]
    prompts: tuple[str, ...]


def gather(connection: duckdb.DuckDBPyConnection) -> Evidence:
    """The evidence of the one run that the connection shows."""
    levels = select(connection, "select levels from runs")["levels"].to_list()[0]
    long = select(
        connection,
        """
        select
            level,
            example_id,
            metric,
            coalesce(method, '') as method,
            coalesce(operator, '') as operator,
            coalesce(variant, '') as variant,
            value
        from example_metrics
        where isfinite(value)
        """,
    )
    predictions = select(
        connection,
        """
        select level, example_id, confidence, is_correct::double as correct
        from predictions
        where probabilities is not null
        """,
    )
    names = pl.concat([long["example_id"], predictions["example_id"]]).unique().sort()
    examples = pl.DataFrame({"example_id": names}).with_row_index("example")
    places = pl.DataFrame({"level": levels}, schema={"level": pl.Int32}).with_row_index("place")
    always = pl.DataFrame(PREDICTED, schema=dict(CELL_SCHEMA), orient="row")
    cells = pl.concat([long.select(CELL), always]).unique().sort(CELL).with_row_index("cell")

    values = np.full((len(levels), len(names), cells.height), np.nan)
    long = long.join(examples, on="example_id").join(places, on="level").join(cells, on=CELL)
    values[long["place"], long["example"], long["cell"]] = long["value"]

    confidence, correct = np.full((2, len(levels), len(names)), np.nan)
    predictions = predictions.join(examples, on="example_id").join(places, on="level")
    confidence[predictions["place"], predictions["example"]] = predictions["confidence"]
    correct[predictions["place"], predictions["example"]] = predictions["correct"]

    return assemble(
        tuple(levels),
        tuple(cells.select(CELL).rows()),
        values,
        confidence,
        correct,
        tuple(names),
    )


def gather_options(connection: duckdb.DuckDBPyConnection, found: Evidence) -> Options:
    """The options of the one run that the connection shows, on the axes of its evidence.

    An example whose prompt the run does not tell has its id in place of it.
    """
    predictions = select(
        connection,
        """
        select predictions.level, example_id, gold, log_probabilities
        from predictions
        inner join runs
            on
                predictions.run_id = runs.run_id
                and list_contains(runs.levels, predictions.level)
        where log_probabilities is not null
        """,
    )
    told = select(connection, "select example_id, prompt from examples where prompt is not null")
    prompts = dict(told.iter_rows())
    width = max(map(len, predictions["log_probabilities"]), default=1)
    shape = len(found.levels), len(found.examples)
    log_likelihoods = np.full((*shape, width), np.nan)
    gold = np.full(shape, -1)
    levels = {level: place for place, level in enumerate(found.levels)}
    examples = {name: place for place, name in enumerate(found.examples)}
    for level, name, right, options in predictions.iter_rows():
        place = levels[level], examples[name]
        log_likelihoods[place] = -np.inf
        log_likelihoods[place][: len(options)] = np.array(options) - max(options)
        gold[place] = right
    return Options(log_likelihoods, gold, tuple(prompts.get(name, name) for name in found.examples))


def assemble(
    levels: tuple[int, ...],
    cells: tuple[Cell, ...],
    values: Array,
    confidence: Array,
    correct: Array,
    examples: tuple[str, ...],
) -> Evidence:
    """The evidence of these arrays (shapes as in Evidence), with the parts of the Brier score."""
    parts = np.full((*confidence.shape, 2), np.nan)
    optimism = np.zeros(len(levels))
    for level, part in enumerate(parts):
        known = ~np.isnan(confidence[level])
        if known.any():
            *of_examples, optimism[level] = brier_split(
                confidence[level][known], correct[level][known]
            )
            part[known] = np.column_stack(of_examples)
    return Evidence(
        levels=levels,
        cells=(
            *cells,
            ("brier_calibration", "", "", ""),
            ("brier_refinement", "", "", ""),
        ),
        values=np.concatenate([values, parts], axis=2),
        confidence=confidence,
        correct=correct,
        optimism=optimism,
        examples=examples,
    )
