"""The scores of every example of one run, as arrays with common axes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import polars as pl
from numpy.typing import NDArray

from prunelake.analysis.calibration import brier_decomposition
from prunelake.analysis.text_scores import TextScores, load_text_scores
from prunelake.lake.sql.views import query_batches, select
from prunelake.schema.arrays import BoolArray, FloatArray
from prunelake.schema.metrics import METRIC_DEFINITIONS
from prunelake.schema.table import METRIC_KEY

MetricKey = tuple[str, str, str, str]
"""metric, method, operator, variant; '' for a part that does not apply."""

PREDICTION_METRICS: tuple[MetricKey, ...] = tuple(
    (name, "", "", "")
    for name, definition in METRIC_DEFINITIONS.items()
    if definition.covers_all_predictions
)
"""The metrics of every run, even of a run in which no example could be scored."""


@dataclass(frozen=True)
class ExampleScores:
    """The scores of one run; NaN where an example has none at a level. The levels include 0.

    `values` is [levels, examples, metric keys]: the mean over the examples is the metric.
    `correct` is [levels, examples], known where the example could be scored. So is `confidence`,
    unless the prediction was imported without one.
    `optimism` [levels] is the optimism of `calibration.brier_decomposition`. `texts` are the
    likelihoods of measured texts, None if there are none.
    """

    levels: tuple[int, ...]
    metric_keys: tuple[MetricKey, ...]
    values: FloatArray
    confidence: FloatArray
    correct: FloatArray
    optimism: FloatArray
    example_ids: tuple[str, ...]
    texts: TextScores | None = None

    @property
    def strata(self) -> NDArray[np.int64]:
        """The stratum of each example: a run explains and continues a fixed number: [examples]."""
        has_text = self.texts.is_known.any(axis=0) if self.texts else np.zeros(1, dtype=bool)
        return self.is_explained + 2 * has_text

    @property
    def is_explained(self) -> BoolArray:
        """Which examples have a score of an explanation at any level: [examples]."""
        of_explanations = np.array([key[1] != "" for key in self.metric_keys], dtype=bool)
        known = ~np.isnan(self.values[:, :, of_explanations])
        explained: BoolArray = np.logical_or.reduce(known, axis=(0, 2))
        return explained


@dataclass(frozen=True)
class OptionScores:
    """The scores of every option, on the levels and examples of an `ExampleScores`.

    `log_likelihoods` is [levels, examples, options], less the maximum over the options: all NaN for
    an example whose options were not scored, -inf where an example has fewer options. `gold` is
    [levels, examples], -1 where it is unknown. `prompts` is [examples].
    """

    log_likelihoods: FloatArray
    gold: NDArray[np.int64]
    prompts: tuple[str, ...]

    @property
    def is_known(self) -> BoolArray:
        """Which examples have log-likelihoods of their options: [levels, examples]."""
        known: BoolArray = ~np.isnan(self.log_likelihoods[..., 0])
        return known


def load_example_scores(connection: duckdb.DuckDBPyConnection) -> ExampleScores:
    """Load the example scores of the only run that the connection shows."""
    levels = select(connection, "select levels from runs")["levels"].to_list()[0]
    key_axis, example_axis = _AxisIndex(METRIC_KEY, PREDICTION_METRICS), _AxisIndex(("example_id",))
    indexed_values = [
        (
            _level_indices(levels, batch),
            example_axis.indices(batch),
            key_axis.indices(batch),
            batch["value"].to_numpy(),
        )
        for batch in query_batches(
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
        where is_scorable
        """,
    )
    predicted_examples = example_axis.indices(predictions)
    example_ranks, key_ranks = example_axis.sorted_ranks(), key_axis.sorted_ranks()

    values = np.full((len(levels), len(example_ranks), len(key_ranks)), np.nan)
    for level_indices, example_indices, key_indices, batch_values in indexed_values:
        values[level_indices, example_ranks[example_indices], key_ranks[key_indices]] = batch_values
    predicted = _level_indices(levels, predictions), example_ranks[predicted_examples]
    confidence, correct = np.full((2, len(levels), len(example_ranks)), np.nan)
    confidence[predicted] = predictions["confidence"]
    correct[predicted] = predictions["correct"]

    example_ids = tuple(example_id for (example_id,) in sorted(example_axis.labels))
    return build_example_scores(
        tuple(levels),
        tuple(
            (metric, method, operator, variant)
            for metric, method, operator, variant in sorted(key_axis.labels)
        ),
        values,
        confidence,
        correct,
        example_ids,
        load_text_scores(connection, levels, example_ids),
    )


class _AxisIndex:
    """Numbers distinct labels in order of appearance.

    A label is a tuple of texts, one for each of `columns`. The numbers take little memory, so that
    the labels of a whole run fit.
    """

    def __init__(self, columns: Sequence[str], labels: Iterable[tuple[str, ...]] = ()) -> None:
        self._columns = columns
        self.labels = {label: number for number, label in enumerate(labels)}

    def indices(self, frame: pl.DataFrame) -> NDArray[np.uint32]:
        """The number of each row's label: [rows]. New labels get the next numbers."""
        for label in frame.select(self._columns).unique().iter_rows():
            self.labels.setdefault(label, len(self.labels))
        schema = dict.fromkeys(self._columns, pl.String())
        numbered = pl.DataFrame([*self.labels], schema=schema, orient="row").with_row_index("index")
        joined = frame.join(numbered, on=self._columns, how="left", maintain_order="left")
        indices: NDArray[np.uint32] = joined["index"].to_numpy()
        return indices

    def sorted_ranks(self) -> NDArray[np.int64]:
        """The rank of each number's label among all labels in sorted order: [labels]."""
        ranks = np.empty(len(self.labels), dtype=np.int64)
        ranks[[self.labels[label] for label in sorted(self.labels)]] = np.arange(len(ranks))
        return ranks


def _level_indices(levels: Sequence[int], frame: pl.DataFrame) -> NDArray[np.int64]:
    column = frame["level"].replace_strict(levels, range(len(levels)), return_dtype=pl.Int64)
    indices: NDArray[np.int64] = column.to_numpy()
    return indices


def load_option_scores(
    connection: duckdb.DuckDBPyConnection, scores: ExampleScores
) -> OptionScores:
    """Load the option scores of the only run that the connection shows, on the axes of `scores`.

    An example whose prompt is unknown gets its id as the prompt.
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
    known_prompts = select(
        connection, "select example_id, prompt from examples where prompt is not null"
    )
    prompts = dict(known_prompts.iter_rows())
    option_count = max(map(len, predictions["log_probabilities"]), default=1)
    shape = len(scores.levels), len(scores.example_ids)
    log_likelihoods = np.full((*shape, option_count), np.nan)
    gold = np.full(shape, -1)
    level_index = {level: index for index, level in enumerate(scores.levels)}
    example_index = {example_id: index for index, example_id in enumerate(scores.example_ids)}
    for level, example_id, right_option, log_probabilities in predictions.iter_rows():
        index = level_index[level], example_index[example_id]
        shifted = np.array(log_probabilities) - max(log_probabilities)
        log_likelihoods[index] = -np.inf
        log_likelihoods[index][: len(shifted)] = shifted
        gold[index] = right_option
    return OptionScores(
        log_likelihoods,
        gold,
        tuple(prompts.get(example_id, example_id) for example_id in scores.example_ids),
    )


def build_example_scores(
    levels: tuple[int, ...],
    metric_keys: tuple[MetricKey, ...],
    values: FloatArray,
    confidence: FloatArray,
    correct: FloatArray,
    example_ids: tuple[str, ...],
    texts: TextScores | None = None,
) -> ExampleScores:
    """Build `ExampleScores` from arrays of its shapes, and add the two parts of the Brier score."""
    brier_parts = np.full((*confidence.shape, 2), np.nan)
    optimism = np.zeros(len(levels))
    for index, parts in enumerate(brier_parts):
        known = ~np.isnan(confidence[index])
        if known.any():
            brier_calibration, brier_refinement, optimism[index] = brier_decomposition(
                confidence[index][known], correct[index][known]
            )
            parts[known] = np.column_stack([brier_calibration, brier_refinement])
    return ExampleScores(
        levels=levels,
        metric_keys=(
            *metric_keys,
            ("brier_calibration", "", "", ""),
            ("brier_refinement", "", "", ""),
        ),
        values=np.concatenate([values, brier_parts], axis=2),
        confidence=confidence,
        correct=correct,
        optimism=optimism,
        example_ids=example_ids,
        texts=texts,
    )
