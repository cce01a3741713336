"""What one run says of each example, as arrays on common axes, for the statistics above it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import polars as pl
from numpy.typing import NDArray

from prunelake.analysis.calibration import brier_decomposition
from prunelake.lake.views import query_batches, select
from prunelake.schema.arrays import BoolArray, FloatArray
from prunelake.schema.table import METRIC_KEY

MetricKey = tuple[str, str, str, str]
"""metric, method, operator, variant; '' where one does not apply."""

PREDICTION_METRICS: tuple[MetricKey, ...] = tuple(
    (name, "", "", "")
    for name in (
        *("accuracy", "accuracy_norm", "brier", "nll", "mean_confidence", "kl_from_unpruned"),
        *("flip_rate", "harmful_flip_rate", "beneficial_flip_rate"),
    )
)
"""What every run has, if only to say that no example could be scored."""


@dataclass(frozen=True)
class ExampleScores:
    """One run: NaN where it says nothing of an example at a level. Level 0 is one of its levels.

    `values` is [levels, examples, cells]: the mean over examples of a cell is its metric.
    `confidence` and `correct` are [levels, examples], of the examples that could be scored.
    `optimism` [levels] is the third part of `calibration.brier_decomposition`.
    """

    levels: tuple[int, ...]
    metric_keys: tuple[MetricKey, ...]
    values: FloatArray
    confidence: FloatArray
    correct: FloatArray
    optimism: FloatArray
    example_ids: tuple[str, ...]

    @property
    def is_explained(self) -> BoolArray:
        """Which examples have a value of any explanation, at whatever level: [examples]."""
        explanations = np.array([method != "" for _, method, _, _ in self.metric_keys], dtype=bool)
        known = ~np.isnan(self.values[:, :, explanations])
        explained: BoolArray = np.logical_or.reduce(known, axis=(0, 2))
        return explained


@dataclass(frozen=True)
class OptionScores:
    """What one run says of each option, on the levels and examples of its Evidence.

    `log_likelihoods` is [levels, examples, options], shifted by their maximum: NaN throughout an
    example that could not be scored, -inf where an example has fewer options. `gold` is [levels,
    examples], -1 where nothing is known; `prompts` [examples].
    """

    log_likelihoods: FloatArray
    gold: NDArray[np.int64]
    prompts: tuple[str, ...]


def load_example_scores(connection: duckdb.DuckDBPyConnection) -> ExampleScores:
    """The evidence of the one run that the connection shows."""
    levels = select(connection, "select levels from runs")["levels"].to_list()[0]
    cells, names = _AxisIndex(METRIC_KEY, PREDICTION_METRICS), _AxisIndex(("example_id",))
    long = [
        (
            _level_indices(levels, part),
            names.indices(part),
            cells.indices(part),
            part["value"].to_numpy(),
        )
        for part in query_batches(
            connection,
            """
            select
                example_metrics.level,
                example_id,
                metric,
                coalesce(method, '') as method,
                coalesce(operator, '') as operator,
                coalesce(variant, '') as variant,
                value
            from example_metrics
            inner join runs
                on
                    example_metrics.run_id = runs.run_id
                    and list_contains(runs.levels, example_metrics.level)
            where isfinite(value)
            """,
        )
    ]
    predictions = select(
        connection,
        """
        select predictions.level, example_id, confidence, is_correct::double as correct
        from predictions
        inner join runs
            on
                predictions.run_id = runs.run_id
                and list_contains(runs.levels, predictions.level)
        where probabilities is not null
        """,
    )
    scored = _level_indices(levels, predictions), names.indices(predictions)
    by_name, by_cell = names.sorted_positions(), cells.sorted_positions()

    values = np.full((len(levels), len(by_name), len(by_cell)), np.nan)
    for place, name, cell, value in long:
        values[place, by_name[name], by_cell[cell]] = value
    confidence, correct = np.full((2, len(levels), len(by_name)), np.nan)
    confidence[scored[0], by_name[scored[1]]] = predictions["confidence"]
    correct[scored[0], by_name[scored[1]]] = predictions["correct"]

    return build_example_scores(
        tuple(levels),
        tuple((one, two, three, four) for one, two, three, four in sorted(cells.labels)),
        values,
        confidence,
        correct,
        tuple(name for (name,) in sorted(names.labels)),
    )


class _AxisIndex:
    """The rows of some columns, of text, numbered as they come: kept small, for all of a run."""

    def __init__(self, columns: Sequence[str], labels: Iterable[tuple[str, ...]] = ()) -> None:
        self._columns = columns
        self.labels = {label: number for number, label in enumerate(labels)}

    def indices(self, part: pl.DataFrame) -> NDArray[np.uint32]:
        """The number of each row of a table."""
        for label in part.select(self._columns).unique().iter_rows():
            self.labels.setdefault(label, len(self.labels))
        schema = dict.fromkeys(self._columns, pl.String())
        known = pl.DataFrame([*self.labels], schema=schema, orient="row").with_row_index("place")
        joined = part.join(known, on=self._columns, how="left", maintain_order="left")
        places: NDArray[np.uint32] = joined["place"].to_numpy()
        return places

    def sorted_positions(self) -> NDArray[np.int64]:
        """Of each number the place of what has it in order."""
        ranks = np.empty(len(self.labels), dtype=np.int64)
        ranks[[self.labels[label] for label in sorted(self.labels)]] = np.arange(len(ranks))
        return ranks


def _level_indices(levels: Sequence[int], part: pl.DataFrame) -> NDArray[np.int64]:
    places = part["level"].replace_strict(levels, range(len(levels)), return_dtype=pl.Int64)
    numbers: NDArray[np.int64] = places.to_numpy()
    return numbers


def load_option_scores(connection: duckdb.DuckDBPyConnection, found: ExampleScores) -> OptionScores:
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
    shape = len(found.levels), len(found.example_ids)
    log_likelihoods = np.full((*shape, width), np.nan)
    gold = np.full(shape, -1)
    levels = {level: place for place, level in enumerate(found.levels)}
    examples = {name: place for place, name in enumerate(found.example_ids)}
    for level, name, right, options in predictions.iter_rows():
        place = levels[level], examples[name]
        log_likelihoods[place] = -np.inf
        log_likelihoods[place][: len(options)] = np.array(options) - max(options)
        gold[place] = right
    return OptionScores(
        log_likelihoods, gold, tuple(prompts.get(name, name) for name in found.example_ids)
    )


def build_example_scores(
    levels: tuple[int, ...],
    cells: tuple[MetricKey, ...],
    values: FloatArray,
    confidence: FloatArray,
    correct: FloatArray,
    examples: tuple[str, ...],
) -> ExampleScores:
    """The evidence of these arrays (shapes as in Evidence), with the parts of the Brier score."""
    parts = np.full((*confidence.shape, 2), np.nan)
    optimism = np.zeros(len(levels))
    for level, part in enumerate(parts):
        known = ~np.isnan(confidence[level])
        if known.any():
            *of_examples, optimism[level] = brier_decomposition(
                confidence[level][known], correct[level][known]
            )
            part[known] = np.column_stack(of_examples)
    return ExampleScores(
        levels=levels,
        metric_keys=(
            *cells,
            ("brier_calibration", "", "", ""),
            ("brier_refinement", "", "", ""),
        ),
        values=np.concatenate([values, parts], axis=2),
        confidence=confidence,
        correct=correct,
        optimism=optimism,
        example_ids=examples,
    )
